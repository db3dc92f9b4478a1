import MartletBase
import MartletKeyspace

// Values that are written piece by piece: a string of megabytes, a container of millions of elements.
//
// Whoever takes a snapshot between commands cannot stop for as long as such a value takes. ``RDBEncoder/begin(_:key:expireAtMilliseconds:)``
// writes what stands before the elements and returns a place in the value; ``RDBEncoder/append(_:bytes:)`` goes on from
// there. The value must not change in between. What is written is the same as in one piece.

/// How far a large value is written.
package struct RDBValuePieces {
    fileprivate enum Next {
        /// The rest of a string.
        case string(UnsafeRawBufferPointer)
        /// Members of a hash or set from a position in hash order on.
        case members(Container, from: UInt64, withExpiry: Bool)
        /// The members of a sorted set below a rank. From the last to the first, as Redis does: whoever reads it inserts at
        /// the head.
        case ranks(Container, below: Int)
        /// The nodes of a list from a number on.
        case nodes(Container, from: Int)
        case stream(RDBStreamPieces)
        case end
    }

    fileprivate var next: Next
}

extension RDBEncoder {
    /// Begins an entry with a large value: writes the key and all that stands before the elements.
    package mutating func begin(
        _ value: LargeValue, key: UnsafeRawBufferPointer, expireAtMilliseconds: Int64? = nil
    ) -> RDBValuePieces {
        switch value {
        case .string(let block):
            append(head: key, .string, expireAtMilliseconds: expireAtMilliseconds)
            return begin(string: block.contents)
        case .container(let container):
            append(head: key, valueType(of: container), expireAtMilliseconds: expireAtMilliseconds)
            return begin(container)
        }
    }

    /// Writes a piece.
    ///
    /// - Parameter bytes: about as many; one element may be longer.
    /// - Returns: whether the value is complete.
    package mutating func append(_ pieces: inout RDBValuePieces, bytes: Int) -> Bool {
        let start = output.count
        while output.count - start < bytes {
            switch pieces.next {
            case .string(let rest): pieces.next = append(rest, bytes: bytes)
            case .members(let container, let position, let withExpiry):
                pieces.next = append(container, from: position, withExpiry: withExpiry)
            case .ranks(let container, let rank): pieces.next = append(container, below: rank)
            case .nodes(let container, let number): pieces.next = append(container, from: number)
            case .stream(var stream): pieces.next = append(&stream) ? .end : .stream(stream)
            case .end: return true
            }
        }
        if case .end = pieces.next { return true }
        return false
    }

    /// A container of many blocks, all of it.
    mutating func append(large container: Container) {
        var pieces = begin(container)
        while !append(&pieces, bytes: .max) {}
    }

    private mutating func begin(_ container: Container) -> RDBValuePieces {
        switch (container.type, container.encoding) {
        case (.hash, .hashtable), (.set, .hashtable):
            append(length: UInt64(container.count))
            let withExpiry = keepsFieldExpiry && container.hasExpiringFields
            return RDBValuePieces(next: .members(container, from: 0, withExpiry: withExpiry))
        case (.sortedSet, .skiplist):
            append(length: UInt64(container.count))
            return RDBValuePieces(next: .ranks(container, below: container.count))
        case (.list, .quicklist):
            append(length: UInt64(ListValue.nodeCount(of: container)))
            return RDBValuePieces(next: .nodes(container, from: 0))
        case (.stream, .stream): return RDBValuePieces(next: .stream(RDBStreamPieces(container)))
        default: preconditionFailure("a container of one block is written in one piece")
        }
    }

    private mutating func begin(string: UnsafeRawBufferPointer) -> RDBValuePieces {
        guard !isCompressing else {
            append(string: string)
            return RDBValuePieces(next: .end)
        }
        append(length: UInt64(string.count))
        return RDBValuePieces(next: .string(string))
    }

    // MARK: Steps

    private mutating func append(_ rest: UnsafeRawBufferPointer, bytes: Int) -> RDBValuePieces.Next {
        let count = min(bytes, rest.count)
        output.append(UnsafeRawBufferPointer(rebasing: rest[..<count]))
        return count == rest.count ? .end : .string(UnsafeRawBufferPointer(rebasing: rest[count...]))
    }

    /// The members of a bucket.
    private mutating func append(
        _ container: Container, from position: UInt64, withExpiry: Bool
    ) -> RDBValuePieces.Next {
        let next: UInt64?
        if container.type == .hash {
            next = container.scanMembers(from: position) { field in
                append(string: field.key)
                append(element: field.string)
                if withExpiry { append(littleEndian: field.expiry ?? -1) }
            }
        } else {
            next = container.scanMembers(from: position) { append(string: $0.key) }
        }
        return next.map { .members(container, from: $0, withExpiry: withExpiry) } ?? .end
    }

    private mutating func append(_ container: Container, below rank: Int) -> RDBValuePieces.Next {
        // Finding a rank costs as much as a few members.
        let ranks = max(0, rank - 128)..<rank
        SortedSetValue(reading: container).forEach(in: ranks, isReversed: true) { member, score in
            append(element: member)
            append(littleEndian: Int64(bitPattern: score.bitPattern))
        }
        return ranks.lowerBound == 0 ? .end : .ranks(container, below: ranks.lowerBound)
    }

    private mutating func append(_ container: Container, from number: Int) -> RDBValuePieces.Next {
        append(node: ListValue.node(number, of: container))
        return number + 1 == ListValue.nodeCount(of: container) ? .end : .nodes(container, from: number + 1)
    }
}
