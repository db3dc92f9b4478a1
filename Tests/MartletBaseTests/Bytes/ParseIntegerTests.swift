import MartletBase
import Testing

@Suite struct ParseIntegerTests {
    private func signed(_ text: String) -> Int64? {
        Array(text.utf8).withUnsafeBytes { parseInt64($0) }
    }

    private func unsigned(_ text: String) -> UInt64? {
        Array(text.utf8).withUnsafeBytes { parseUInt64($0) }
    }

    @Test(
        "Canonical decimals are read over the whole range",
        arguments: [
            ("0", 0), ("9", 9), ("-1", -1), ("10", 10), ("999999999999999999", 999_999_999_999_999_999),
            ("9223372036854775807", Int64.max), ("-9223372036854775808", Int64.min),
            ("-9223372036854775807", -9_223_372_036_854_775_807),
        ])
    func accepted(text: String, value: Int64) {
        #expect(signed(text) == value)
    }

    @Test(
        "Everything that is not canonical is refused",
        arguments: [
            "", "-", "+1", "-0", "00", "01", "-01", " 1", "1 ", "1.0", "0x1", "1e3", "1a", "a1", "1-", "--1",
            "9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
            "99999999999999999999", "100000000000000000000", "-99999999999999999999", "1/", "1:", "/", ":",
            "123456789012345678 ", "922337203685477580a", "9223372036854775\u{0}",
        ])
    func refused(text: String) {
        #expect(signed(text) == nil)
    }

    @Test("Unsigned integers reach one limit further and take no sign")
    func unsignedLimits() {
        #expect(unsigned("0") == 0)
        #expect(unsigned("18446744073709551615") == UInt64.max)
        #expect(unsigned("18446744073709551616") == nil)
        #expect(unsigned("99999999999999999999") == nil)
        #expect(unsigned("184467440737095516150") == nil)
        #expect(unsigned("9999999999999999999") == 9_999_999_999_999_999_999)
        for text in ["", "-1", "-0", "00", "+1", "1844674407370955161x"] { #expect(unsigned(text) == nil) }
    }

    @Test("What is written is read back")
    func roundTrip() {
        let seed: UInt64 = 20_260_101
        var random = PRNG(seed: seed)
        for _ in 0..<20_000 {
            let value = Int64(bitPattern: random.next()) >> Int64(random.below(64))
            #expect(signed(String(value)) == value, "seed \(seed)")
        }
    }
}
