import MartletRESP
import Testing

@Suite struct ReplyErrorTests {
    @Test(
        "An error gives a client's bytes back as they were, UTF-8 or not",
        arguments: [
            [], Array("plain".utf8), Array("ünï¢ød€ 😀".utf8), [0xFF, 0x41, 0xC3], Array("😀".utf8) + [0xF0, 0x80],
            Array("\u{F680}\u{F6FF}".utf8), Array(UInt8(0x0E)...0xFF),
        ])
    func quotedBytes(_ bytes: [UInt8]) {
        let text = bytes.withUnsafeBytes { ReplyError.quoted($0) }
        var reply = ReplyBuffer()
        reply.error(.message("ERR '\(text)'\r\n"))
        #expect(Array(reply.bytes) == Array("-ERR '".utf8) + bytes + Array("'  \r\n".utf8))
    }
}
