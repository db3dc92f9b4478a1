import Glibc
import MartletBase
import Testing

/// The C library is the judge here: Redis prints and reads with printf, strtod and strtold.
@Suite struct DoubleTests {
    private func formatted(_ value: Double) -> String {
        written(room: doubleBytesMax) { formatDouble17(value, to: $0) }
    }

    private func score(_ value: Double) -> String { written(room: doubleBytesMax) { formatScore(value, to: $0) } }

    private func human(_ value: LongDouble) -> String {
        written(room: longDoubleBytesMax) {
            formatHuman(value, to: UnsafeMutableRawBufferPointer(start: $0, count: longDoubleBytesMax))
        }
    }

    private func parsed(_ text: String) -> Double? { Array(text.utf8).withUnsafeBytes { parseDouble($0) } }

    private func parsedLong(_ text: String) -> LongDouble? {
        Array(text.utf8).withUnsafeBytes { parseLongDouble($0) }
    }

    private func printf(_ format: String, _ value: any CVarArg) -> String {
        var buffer = [CChar](repeating: 0, count: longDoubleBytesMax)
        let count = withVaList([value]) { vsnprintf(&buffer, buffer.count, format, $0) }
        return String(decoding: buffer[..<Int(count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    @Test(
        "Doubles are written with 17 significant digits",
        arguments: [
            (0, "0"), (-0.0, "-0"), (1, "1"), (-1, "-1"), (0.1, "0.10000000000000001"), (1.5, "1.5"),
            (3.14, "3.1400000000000001"), (1e16, "10000000000000000"), (1e17, "1e+17"), (1e21, "1e+21"),
            (1e-4, "0.0001"), (1e-5, "1.0000000000000001e-05"), (.infinity, "inf"), (-.infinity, "-inf"),
            (.leastNonzeroMagnitude, "4.9406564584124654e-324"), (.greatestFiniteMagnitude, "1.7976931348623157e+308"),
            (9007199254740992, "9007199254740992"), (123456789.125, "123456789.125"),
        ])
    func examples(value: Double, text: String) {
        #expect(formatted(value) == text)
    }

    @Test("Doubles of every exponent are written as printf writes them")
    func everyExponent() {
        let seed: UInt64 = 17
        var random = PRNG(seed: seed)
        for exponent in 0..<2047 {
            for _ in 0..<6 {
                let bits = UInt64(exponent) << 52 | (random.next() >> UInt64(12 + random.below(53)))
                let value = Double(bitPattern: random.next() & 1 << 63 | bits)
                #expect(formatted(value) == printf("%.17g", value), "seed \(seed)")
            }
        }
    }

    @Test("Doubles that people write, and exact halves of the last digit, are written as printf writes them")
    func everyday() {
        let seed: UInt64 = 18
        var random = PRNG(seed: seed)
        for _ in 0..<20_000 {
            let value = Double(random.below(1_000_000_000)) / Double(powerOfTen(random.below(12)))
            #expect(formatted(value) == printf("%.17g", value), "seed \(seed)")
            let half = Double(random.next() >> 11) / Double(UInt64(1) << UInt64(random.below(10)))
            #expect(formatted(half) == printf("%.17g", half), "seed \(seed)")
        }
    }

    @Test("Scores that are integers are written without exponent up to 2^62")
    func scores() {
        #expect(score(1e17) == "100000000000000000")
        #expect(score(-0x1p62) == "-4611686018427387904")
        #expect(score(0x1p63) == "9.2233720368547758e+18")
        #expect(score(-0.0) == "-0")
        #expect(score(0.1) == "0.10000000000000001")
        #expect(score(.infinity) == "inf")
    }

    @Test(
        "Long doubles are written with up to 17 decimals and no exponent",
        arguments: [
            (0, "0"), (-0.0, "0"), (10.5, "10.5"), (5000, "5000"), (-1e-20, "0"), (1e-17, "0.00000000000000001"),
            (18446744073709551616, "18446744073709551616"), (1e27, "1000000000000000000000000000"),
            (.infinity, "inf"), (-.infinity, "-inf"), (0.99999999999999999999, "1"),
        ])
    func human(value: LongDouble, text: String) {
        #expect(human(value) == text)
    }

    #if arch(x86_64)
        @Test("Long doubles of every size are written as printf writes them, less trailing zeros")
        func humanRandom() {
            let seed: UInt64 = 80
            var random = PRNG(seed: seed)
            for round in 0..<5_000 {
                let exponent = round % 10 == 0 ? random.below(32_000) - 16_000 : random.below(200) - 100
                let significand = Float80(random.next() >> UInt64(random.below(64)))
                let value = Float80(
                    sign: random.next() & 1 == 0 ? .plus : .minus, exponent: exponent, significand: significand)
                guard value.isFinite else { continue }
                var expected = printf("%.17Lf", value)
                while expected.hasSuffix("0") { expected.removeLast() }
                if expected.hasSuffix(".") { expected.removeLast() }
                if expected == "-0" { expected = "0" }
                #expect(human(value) == expected, "seed \(seed)")
            }
        }
    #endif

    @Test(
        "Numbers are read as strtod reads them",
        arguments: [
            "0", "-0", "1", "+1", "1.5", ".5", "5.", "1e3", "1E+3", "1e-3", "-1.25e2", "inf", "-INF", "Infinity",
            "+infinity", "0x10", "0X1.8p1", "0x.8", "3.14159265358979323846264338327950288", "1e308", "4.9e-324",
            "2.2250738585072011e-308", "9007199254740993", "123456789012345678901234567890", "0e99999999999",
            "0.000000000000000000000000000000000000000000001", "1e22", "1e23", "8.5e22",
        ])
    func accepted(text: String) {
        #expect(parsed(text) == strtod(text, nil))
        #expect(parsed(text)?.sign == strtod(text, nil).sign)
        #if arch(x86_64)
            #expect(parsedLong(text) == strtold(text, nil))
        #endif
    }

    @Test(
        "What is no number as a whole is refused",
        arguments: [
            "", " ", " 1", "1 ", "+", "-", ".", "e5", "1e", "1e+", "1e+x", "1.2.3", "--1", "+-1", "nan", "NaN",
            "-nan", "nan(1)", "infinit", "infinityx", "in", "0x", "0xg", "0x1p", "1f", "1,5", "1\u{0}", "\u{0}",
            "1_000", "٣", "0x.p1", ".e1",
        ])
    func refused(text: String) {
        #expect(parsed(text) == nil)
        #expect(parsedLong(text) == nil)
    }

    @Test("Overflow and underflow to zero are refused, denormal numbers are not")
    func range() {
        for text in ["1e309", "-1e309", "1e-400", "-1e-400", "1e999999999999999999999", "0x1p5000"] {
            #expect(parsed(text) == nil)
        }
        #expect(parsed("1e-320") == Double(bitPattern: 2024))
        #expect(parsedLong("1e99999") == nil)
        #expect(parsedLong("1e-99999") == nil)
        #expect(parsedLong(String(repeating: "0", count: longDoubleTextBytesMax)) == 0)
        #expect(parsedLong(String(repeating: "0", count: longDoubleTextBytesMax + 1)) == nil)
    }

    @Test("Random decimals are read as strtod and strtold read them")
    func randomDecimals() {
        let seed: UInt64 = 99
        var random = PRNG(seed: seed)
        for _ in 0..<20_000 {
            var text = random.next() & 1 == 0 ? "" : "-"
            for _ in 0...random.below(22) { text.append(Character(UnicodeScalar(48 + UInt8(random.below(10))))) }
            if random.next() & 1 == 0 { text.append(".") }
            for _ in 0..<random.below(22) { text.append(Character(UnicodeScalar(48 + UInt8(random.below(10))))) }
            if text.contains(".") || random.next() & 3 == 0 { text += "e\(random.below(600) - 300)" }
            let expected = strtod(text, nil)
            let isValid = text.filter { $0 == "." }.count <= 1 && expected.isFinite
            if isValid, expected != 0 { #expect(parsed(text) == expected, "seed \(seed)") }
            #if arch(x86_64)
                if isValid { #expect(parsedLong(text) == strtold(text, nil), "seed \(seed)") }
            #endif
        }
    }
}
