import MartletBase
import MartletRESP

// CONFIG GET and CONFIG SET. A change of several directives happens as a whole or not at all: it is worked out on a copy.
// Some changes have consequences outside of this value (listen on another port, open the append only file). The node
// carries them out, in the order of `changed`, and if one fails it undoes those before, keeps the old value and answers
// `ConfigurationChange.failure`:
//
//     let change = try configuration.changed(by: pairs, …)
//     for name in change.changed { if let problem = apply(name, change.configuration) { throw …failure(name, problem) } }
//     configuration = change.configuration
//
// Source: Redis 7.0 config.c, `configSetCommand`, `configGetCommand`.

package struct ConfigurationChange {
    package let configuration: ServerConfiguration
    /// The names of the directives whose values are other ones now, in the order of the command; never aliases.
    package let changed: [String]

    /// The reply if the value was right but could not be put into effect.
    package static func failure(_ name: String, _ problem: String) -> ReplyError {
        .message("ERR CONFIG SET failed (possibly related to argument '\(name)') - \(problem)")
    }
}

extension ServerConfiguration {
    /// The configuration after CONFIG SET with these names and values.
    package func changed(
        by pairs: [(name: [UInt8], value: [UInt8])], isLoading: Bool, isLocalClient: Bool
    ) throws(ReplyError) -> ConfigurationChange {
        var found: [(directive: Directive, name: String, value: [UInt8])] = []
        for (name, value) in pairs {
            guard let (directive, registered) = Directive.named(name) else {
                throw .message(
                    "ERR Unknown option or number of arguments for CONFIG SET - '\(Self.printable(name))'")
            }
            if directive.flags.contains(.immutable) {
                throw ConfigurationChange.failure(Self.printable(name), "can't set immutable config")
            }
            if directive.flags.contains(.protected), !protectedConfigs.allows(isLocalClient: isLocalClient) {
                throw ConfigurationChange.failure(Self.printable(name), "can't set protected config")
            }
            if isLoading, directive.flags.contains(.denyLoading) {
                throw .text("LOADING Redis is loading the dataset in memory")
            }
            // An alias beside its name is no duplicate, as in Redis: the last one holds.
            if found.contains(where: { $0.name == registered }) {
                throw ConfigurationChange.failure(Self.printable(name), "duplicate parameter")
            }
            found.append((directive, registered, value))
        }

        var result = self
        var changed: [String] = []
        for (directive, name, value) in found {
            let words: [[UInt8]]
            if directive.flags.contains(.multiArgument) {
                words =
                    value.isEmpty ? [] : value.split(separator: 0x20, omittingEmptySubsequences: false).map(Array.init)
            } else {
                words = [value]
            }
            let before = directive.shown(in: result)
            do throws(DirectiveError) {
                try directive.assign(words, to: &result)
            } catch {
                throw ConfigurationChange.failure(name, error.text)
            }
            result.clampHz()
            let isChange = before != directive.shown(in: result) || directive.flags.contains(.volatile)
            if isChange, !changed.contains(directive.name) { changed.append(directive.name) }
        }
        return ConfigurationChange(configuration: result, changed: changed)
    }

    /// Names and values for CONFIG GET. A name without glob characters is answered under the spelling it was asked by.
    package func matching(_ patterns: [[UInt8]]) -> [(name: [UInt8], value: [UInt8])] {
        var result: [(name: [UInt8], value: [UInt8])] = []
        var seen: Set<String> = []
        for pattern in patterns {
            guard pattern.contains(where: { "[*?".utf8.contains($0) }) else {
                if let (directive, name) = Directive.named(pattern), seen.insert(name).inserted {
                    result.append((pattern, directive.shown(in: self)))
                }
                continue
            }
            for directive in Directive.all where !directive.flags.contains(.hidden) {
                for name in [directive.name, directive.alias].compactMap({ $0 }) {
                    let bytes = Array(name.utf8)
                    let isMatch = pattern.withUnsafeBytes { pattern in
                        bytes.withUnsafeBytes { globMatches(pattern: pattern, text: $0, ignoringCase: true) }
                    }
                    if isMatch, seen.insert(name).inserted { result.append((bytes, directive.shown(in: self))) }
                }
            }
        }
        return result
    }

    /// An error line must not contain line ends.
    private static func printable(_ name: [UInt8]) -> String {
        String(decoding: name.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }, as: UTF8.self)
    }
}
