// What a command takes, for COMMAND DOCS, which redis-cli and client libraries make hints of. A command says it in one
// line:
//
//     key value [condition=<NX|XX>] [GET] [expiration=<EX seconds:integer|PX milliseconds:integer|KEEPTTL>]
//     key_value={key value}...          LIMIT {offset:integer count:integer}
//
// A word in lower case is an argument, with its type behind a colon (a string if nothing is said, a key if it is called
// key). A word in upper case is a token: before the argument that it introduces, or alone; then it ends in `!` if an
// argument follows that is none of its own. A token in quotes may be in lower case, or empty. `<a|b>` is a choice, `{a b}`
// a block. `name=` before any of these names it. `[…]` is optional, three dots mean several, and `+` means several with the
// token each time. `#1` behind a type names a key specification; a key's is the first unless another is named. `@6.2.0`
// says since when there is an argument that the command did not always have, `@-6.2.0` since when it is deprecated.

struct CommandArgument: Equatable, Sendable {
    var name = ""
    var type = "string"
    var keySpecIndex: Int?
    var token: String?
    var since: String?
    var deprecatedSince: String?
    var isOptional = false
    var isMultiple = false
    var repeatsToken = false
    var arguments: [CommandArgument] = []

    /// - Precondition: `text` is in the notation above; it comes from our own source.
    static func parse(_ text: StaticString) -> [CommandArgument] {
        var parser = Parser(rest: Array(text.description)[...])
        let arguments = parser.sequence()
        precondition(parser.rest.isEmpty, "arguments of a command: unread text in '\(text)'")
        return arguments
    }

    private struct Parser {
        var rest: ArraySlice<Character>

        mutating func take(_ character: Character) -> Bool {
            guard rest.first == character else { return false }
            rest.removeFirst()
            return true
        }

        mutating func expect(_ character: Character) {
            precondition(take(character), "arguments of a command: '\(character)' missing before '\(String(rest))'")
        }

        mutating func skipBlanks() { while take(" ") {} }

        mutating func sequence() -> [CommandArgument] {
            var arguments: [CommandArgument] = []
            while true {
                skipBlanks()
                guard let next = rest.first, !"]>}|".contains(next) else { return arguments }
                arguments.append(argument())
            }
        }

        mutating func argument() -> CommandArgument {
            var argument: CommandArgument
            if take("[") {
                skipBlanks()
                argument = self.argument()
                argument.isOptional = true
                skipBlanks()
                expect("]")
            } else {
                argument = required()
                if take("@") {
                    if take("-") { argument.deprecatedSince = version() } else { argument.since = version() }
                }
            }
            if rest.starts(with: "...") {
                rest.removeFirst(3)
                argument.isMultiple = true
            } else if take("+") {
                argument.isMultiple = true
                argument.repeatsToken = true
            }
            return argument
        }

        /// Three numbers: more dots mean something else.
        mutating func version() -> String {
            func number() -> String {
                let digits = rest.prefix { $0.isNumber }
                rest = rest[digits.endIndex...]
                return String(digits)
            }
            var numbers = number()
            for _ in 0..<2 {
                expect(".")
                numbers += "." + number()
            }
            return numbers
        }

        mutating func required() -> CommandArgument {
            if rest.first == "<" || rest.first == "{" { return group(CommandArgument()) }
            if take("'") {
                let token = String(rest.prefix { $0 != "'" })
                rest.removeFirst(token.count)
                expect("'")
                return CommandArgument(name: token, type: "pure-token", token: token)
            }
            let first = word()
            if take("=") {
                var named = required()
                named.name = first
                return named
            }
            guard Self.isToken(first) else { return typed(first) }
            if take("!") { return CommandArgument(name: first.lowercased(), type: "pure-token", token: first) }
            // A token introduces what follows, unless that is another token or the end.
            let mark = rest
            skipBlanks()
            var argument: CommandArgument
            if rest.first == "<" || rest.first == "{" {
                argument = group(CommandArgument())
            } else if let next = rest.first, next.isLetter, next.isLowercase {
                let name = word()
                if take("=") {
                    argument = required()
                    argument.name = name
                } else {
                    argument = typed(name)
                }
            } else {
                rest = mark
                return CommandArgument(name: first.lowercased(), type: "pure-token", token: first)
            }
            argument.token = first
            return argument
        }

        mutating func group(_ start: CommandArgument) -> CommandArgument {
            var group = start
            if take("<") {
                group.type = "oneof"
                repeat {
                    let alternative = sequence()
                    precondition(alternative.count == 1, "arguments of a command: alternatives are single arguments")
                    group.arguments += alternative
                } while take("|")
                expect(">")
            } else {
                expect("{")
                group.type = "block"
                group.arguments = sequence()
                expect("}")
            }
            if group.name.isEmpty { group.name = group.arguments.map(\.name).joined(separator: "_") }
            return group
        }

        mutating func typed(_ name: String) -> CommandArgument {
            var argument = CommandArgument(name: name, type: name == "key" ? "key" : "string")
            while take(":") {
                let word = word()
                if Self.types.contains(word) {
                    argument.type = word
                } else {
                    argument.name += ":" + word
                }
            }
            if take("#") {
                argument.keySpecIndex = Int(word())
            } else if argument.type == "key" {
                argument.keySpecIndex = 0
            }
            return argument
        }

        private static let types: Set<String> = ["string", "integer", "double", "key", "pattern", "unix-time"]

        mutating func word() -> String {
            let word = rest.prefix { !" []<>{}|=:#+.!'@".contains($0) }
            precondition(!word.isEmpty, "arguments of a command: word missing before '\(String(rest))'")
            rest = rest[word.endIndex...]
            return String(word)
        }

        static func isToken(_ word: String) -> Bool { !word.contains { $0.isLowercase } }
    }
}
