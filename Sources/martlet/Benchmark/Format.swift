import Glibc

/// `value` with so many decimals: `%.3f`.
package func fixed(_ value: Double, _ decimals: Int) -> String {
    withVaList([Int32(clamping: decimals), value]) { arguments in
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 400) { text in
            vsnprintf(text.baseAddress!, text.count, "%.*f", arguments)
            return String(cString: text.baseAddress!)
        }
    }
}

/// `text` behind blanks, so that it takes `width` characters.
package func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}
