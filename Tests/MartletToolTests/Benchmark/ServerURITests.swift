import Testing
import martlet

@Suite struct ServerURITests {
    @Test(
        "All parts but the scheme may be missing",
        arguments: [
            ("redis://", nil, nil, nil, nil, nil), ("redis://h", nil, nil, "h", nil, nil),
            ("valkey://h:1/2", nil, nil, "h", 1, 2), ("redis://u:p%40x@h:1", "u", "p@x", "h", 1, nil),
            ("redis://secret@h", nil, "secret", "h", nil, nil), ("redis://:p@[::1]:7/", nil, "p", "::1", 7, nil),
            ("rediss://[::1]", nil, nil, "::1", nil, nil),
        ] as [(String, String?, String?, String?, Int?, Int?)])
    func parts(_ text: String, user: String?, password: String?, host: String?, port: Int?, database: Int?) {
        var expected = ServerURI()
        expected.user = user
        expected.password = password
        expected.host = host
        expected.port = port
        expected.database = database
        #expect(ServerURI(parsing: text) == expected)
    }

    @Test(
        "Other texts are refused",
        arguments: ["", "http://h", "redis://h:x", "redis://h/x", "redis://%zz@h", "redis://%4@h"])
    func refused(_ text: String) { #expect(ServerURI(parsing: text) == nil) }
}
