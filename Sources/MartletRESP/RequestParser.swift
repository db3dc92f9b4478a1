import MartletBase

// Parsing of requests, one pass over everything that one connection received.
//
// A request is either a RESP array of bulk strings, `*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`, or an inline command: words on a
// line, quoted as in a shell. The parser appends every complete request of the chunk to the batch as views into the
// chunk and leaves an incomplete tail alone: the connection keeps those bytes and parses them again, from the start of
// the request, when more have come. Parsing again is cheap while the tail is short. A long tail (a command of many
// arguments that drips in) would make it quadratic, so past `resumeThreshold` bytes the position and the offsets of the
// arguments found so far are kept in a `PartialRequest` and parsing goes on there. They are put into the batch once, when
// the request is complete.
//
// Nothing here touches state outside the batch and the connection, so that I/O threads can parse.
//
// Source of limits and error texts: Redis 7.0 networking.c, processInlineBuffer and processMultibulkBuffer.

/// What a connection allows its client to send. One home for the limits of the request parser.
package struct RequestLimits: Sendable {
    /// Longest line: an inline command, or the digits of a length. (PROTO_INLINE_MAX_SIZE)
    package static let inlineBytesMax = 64 * 1024
    /// Most arguments in one command. Memory is only taken for those that have arrived.
    package static let argumentCountMax = Int(Int32.max)
    /// What a client may send before it has authenticated.
    package static let unauthenticatedArgumentCountMax = 10
    package static let unauthenticatedBulkBytesMax = 16384

    /// Longest argument in bytes: `proto-max-bulk-len`.
    package var bulkBytesMax: Int = 512 * 1024 * 1024
    package var isAuthenticated = true
    /// A chunk is left at the first request that starts behind so many bytes: a client that waited may have sent any number
    /// of requests meanwhile, and each takes memory when it is parsed.
    package var parsedBytesMax = Int.max

    package init(bulkBytesMax: Int = 512 * 1024 * 1024, isAuthenticated: Bool = true) {
        self.bulkBytesMax = bulkBytesMax
        self.isAuthenticated = isAuthenticated
    }
}

/// The state of a long request that has not arrived completely: offsets from the start of the request.
package struct PartialRequest {
    let argumentCount: Int
    var position: Int
    /// Those found so far.
    var arguments: [(offset: Int, count: Int)] = []
}

package enum RequestParser {
    /// Tails longer than this are not parsed again from their start.
    static let resumeThreshold = 4096

    /// Parses all complete requests of a chunk and appends them to the batch.
    ///
    /// After a protocol error one entry with `error` set is appended and the whole chunk counts as consumed.
    ///
    /// - Parameter partial: where to go on inside the chunk's first request; updated for its last one.
    /// - Returns: how many more bytes the incomplete last request is known to need, at least; 0 if unknown.
    /// - Complexity: O(bytes)
    package static func parse(
        chunk chunkIndex: Int, limits: RequestLimits, partial: inout PartialRequest?, into batch: inout RequestBatch
    ) -> Int {
        let base = batch.chunks[chunkIndex].base
        let count = batch.chunks[chunkIndex].count
        let stop = min(count, limits.parsedBytesMax)
        var position = 0
        var missing = 0
        var isIncomplete = false
        loop: while position < stop {
            let outcome: Outcome
            if base[position] == UInt8(ascii: "*") {
                outcome = parseMultibulk(
                    base, start: position, count: count, chunk: chunkIndex, limits: limits, partial: &partial,
                    into: &batch)
            } else {
                outcome = parseInline(base, start: position, count: count, chunk: chunkIndex, into: &batch)
            }
            switch outcome {
            case .complete(let end):
                position = end
            case .incomplete(let needed):
                missing = needed
                isIncomplete = true
                break loop
            case .invalid(let error, let byte):
                batch.append(
                    ParsedRequest(
                        firstArgument: batch.argumentCount, argumentCount: 0, chunk: chunkIndex, start: position,
                        end: count, error: error, errorByte: byte, isMultibulk: false))
                position = count
                partial = nil
            }
        }
        batch.chunks[chunkIndex].consumed = position
        batch.chunks[chunkIndex].hasMore = position < count && !isIncomplete
        return missing
    }

    private enum Outcome {
        case complete(end: Int)
        case incomplete(needed: Int)
        case invalid(ProtocolError, UInt8)
    }

    /// A length line: the number and the position after its CRLF.
    private enum Line {
        case number(Int, next: Int)
        case incomplete
        case invalid
        case tooLong
    }

    @inline(__always)
    private static func parseNumber(_ base: UnsafePointer<UInt8>, from start: Int, count: Int) -> Line {
        // The common case, one to three digits and CRLF, is decided without a search for the end of the line.
        var position = start
        var value = 0
        var digits = 0
        while position < count {
            let digit = base[position] &- UInt8(ascii: "0")
            if digit > 9 { break }
            value = value &* 10 &+ Int(digit)
            digits &+= 1
            if digits > 10 { return parseOddNumber(base, from: start, count: count) }
            position &+= 1
        }
        if digits > 0, position &+ 1 < count, base[position] == 13 {
            if digits > 1, base[start] == UInt8(ascii: "0") { return .invalid }
            // As in Redis, the byte after CR is taken to be LF without a look.
            return .number(value, next: position &+ 2)
        }
        return parseOddNumber(base, from: start, count: count)
    }

    /// Negative, malformed, overlong and incomplete lines.
    @inline(never)
    private static func parseOddNumber(_ base: UnsafePointer<UInt8>, from start: Int, count: Int) -> Line {
        var end = start
        while end < count, base[end] != 13 {
            end += 1
            if end - start > RequestLimits.inlineBytesMax { return .tooLong }
        }
        guard end < count else { return .incomplete }
        let text = UnsafeRawBufferPointer(start: base + start, count: end - start)
        var value = 0
        var index = 0
        let isNegative = text.count > 1 && text[0] == UInt8(ascii: "-")
        if isNegative { index = 1 }
        guard index < text.count, text.count - index <= 18 else { return .invalid }
        if text[index] == UInt8(ascii: "0"), text.count > 1 { return .invalid }
        while index < text.count {
            let digit = text[index] &- UInt8(ascii: "0")
            guard digit <= 9 else { return .invalid }
            value = value * 10 + Int(digit)
            index += 1
        }
        guard end + 1 < count else { return .incomplete }
        return .number(isNegative ? -value : value, next: end + 2)
    }

    private static func parseMultibulk(
        _ base: UnsafePointer<UInt8>, start: Int, count: Int, chunk: Int, limits: RequestLimits,
        partial: inout PartialRequest?, into batch: inout RequestBatch
    ) -> Outcome {
        let firstArgument = batch.argumentCount
        var position: Int
        let argumentCount: Int
        var remaining: Int
        if let partial {
            argumentCount = partial.argumentCount
            remaining = argumentCount - partial.arguments.count
            position = start + partial.position
        } else {
            switch parseNumber(base, from: start &+ 1, count: count) {
            case .number(let value, let next):
                if value <= 0 { return .complete(end: next) }
                if value > RequestLimits.argumentCountMax { return .invalid(.invalidMultibulkLength, 0) }
                if !limits.isAuthenticated, value > RequestLimits.unauthenticatedArgumentCountMax {
                    return .invalid(.unauthenticatedMultibulkLength, 0)
                }
                argumentCount = value
                remaining = value
                position = next
            case .incomplete: return .incomplete(needed: 0)
            case .invalid: return .invalid(.invalidMultibulkLength, 0)
            case .tooLong: return .invalid(.tooBigMultibulkCount, 0)
            }
        }
        while remaining > 0 {
            guard position < count else {
                return keep(&batch, from: firstArgument, base, start, position, argumentCount, &partial, needed: 0)
            }
            guard base[position] == UInt8(ascii: "$") else { return .invalid(.expectedDollar, base[position]) }
            switch parseNumber(base, from: position &+ 1, count: count) {
            case .number(let length, let next):
                if length < 0 || length > limits.bulkBytesMax { return .invalid(.invalidBulkLength, 0) }
                if !limits.isAuthenticated, length > RequestLimits.unauthenticatedBulkBytesMax {
                    return .invalid(.unauthenticatedBulkLength, 0)
                }
                guard next &+ length &+ 2 <= count else {
                    let needed = next &+ length &+ 2 &- count
                    return keep(
                        &batch, from: firstArgument, base, start, position, argumentCount, &partial, needed: needed)
                }
                batch.append(argument: UnsafeRawBufferPointer(start: base + next, count: length))
                position = next &+ length &+ 2
                remaining &-= 1
            case .incomplete:
                return keep(&batch, from: firstArgument, base, start, position, argumentCount, &partial, needed: 0)
            case .invalid: return .invalid(.invalidBulkLength, 0)
            case .tooLong: return .invalid(.tooBigBulkCount, 0)
            }
        }
        if partial != nil { putBack(&partial, base, start, position, into: &batch, from: firstArgument) }
        batch.append(
            ParsedRequest(
                firstArgument: firstArgument, argumentCount: argumentCount, chunk: chunk, start: start, end: position,
                isMultibulk: true))
        return .complete(end: position)
    }

    /// Leaves an incomplete request: drops its new arguments from the batch, and notes them if the tail is long.
    @inline(never)
    private static func keep(
        _ batch: inout RequestBatch, from firstArgument: Int, _ base: UnsafePointer<UInt8>, _ start: Int,
        _ position: Int, _ argumentCount: Int, _ partial: inout PartialRequest?, needed: Int
    ) -> Outcome {
        if position - start > resumeThreshold {
            if partial == nil { partial = PartialRequest(argumentCount: argumentCount, position: 0) }
            note(&partial, base, start, position, batch, from: firstArgument)
        }
        batch.truncateArguments(to: firstArgument)
        return .incomplete(needed: needed)
    }

    /// Adds the arguments that the batch has since `firstArgument` to those of a partial request.
    private static func note(
        _ partial: inout PartialRequest?, _ base: UnsafePointer<UInt8>, _ start: Int, _ position: Int,
        _ batch: borrowing RequestBatch, from firstArgument: Int
    ) {
        let origin = UnsafeRawPointer(base + start)
        for index in firstArgument..<batch.argumentCount {
            let argument = batch.arguments[index]
            partial?.arguments.append((argument.baseAddress! - origin, argument.count))
        }
        partial?.position = position - start
    }

    /// A long request is complete: all its arguments come into the batch, in order.
    @inline(never)
    private static func putBack(
        _ partial: inout PartialRequest?, _ base: UnsafePointer<UInt8>, _ start: Int, _ position: Int,
        into batch: inout RequestBatch, from firstArgument: Int
    ) {
        note(&partial, base, start, position, batch, from: firstArgument)
        batch.truncateArguments(to: firstArgument)
        for argument in partial.take()?.arguments ?? [] {
            batch.append(
                argument: UnsafeRawBufferPointer(start: base + start + argument.offset, count: argument.count))
        }
    }

    /// An inline command: a line of words. Plain words are views into the line; a word with quotes is decoded into
    /// memory of the batch, because the line may be parsed again after its client was parked.
    private static func parseInline(
        _ base: UnsafePointer<UInt8>, start: Int, count: Int, chunk: Int, into batch: inout RequestBatch
    ) -> Outcome {
        var end = start
        while end < count, base[end] != 10 { end += 1 }
        guard end < count else {
            return count - start > RequestLimits.inlineBytesMax
                ? .invalid(.tooBigInlineRequest, 0) : .incomplete(needed: 0)
        }
        if end - start > RequestLimits.inlineBytesMax { return .invalid(.tooBigInlineRequest, 0) }
        let next = end + 1
        if end > start, base[end - 1] == 13 { end -= 1 }
        let firstArgument = batch.argumentCount
        let line = UnsafeRawBufferPointer(start: base + start, count: end - start)
        let isBalanced = splitArguments(
            line, plain: { batch.append(argument: UnsafeRawBufferPointer(rebasing: line[$0])) },
            decoded: { batch.append(decodedWord: $0) })
        guard isBalanced else {
            batch.truncateArguments(to: firstArgument)
            return .invalid(.unbalancedQuotes, 0)
        }
        let argumentCount = batch.argumentCount - firstArgument
        if argumentCount > 0 {
            batch.append(
                ParsedRequest(
                    firstArgument: firstArgument, argumentCount: argumentCount, chunk: chunk, start: start, end: next,
                    isMultibulk: false))
        }
        return .complete(end: next)
    }
}
