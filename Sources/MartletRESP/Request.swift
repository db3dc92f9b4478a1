import MartletBase

/// One parsed command: its name and arguments as views into the bytes that arrived.
///
/// The views stay valid until the command returns. A value that outlives the command is copied out by its handler.
package struct Request {
    /// `arguments[0]` is the command name.
    package let arguments: UnsafeMutablePointer<UnsafeRawBufferPointer>
    package let count: Int
    /// Hash of the first key, computed ahead of execution so that the bucket could be prefetched; 0 if there is no key.
    package var keyHash: UInt64
    /// The hash slot of the keys in cluster mode, else 0.
    package var slot: UInt16

    @inlinable
    package init(
        arguments: UnsafeMutablePointer<UnsafeRawBufferPointer>, count: Int, keyHash: UInt64 = 0, slot: UInt16 = 0
    ) {
        self.arguments = arguments
        self.count = count
        self.keyHash = keyHash
        self.slot = slot
    }

    /// - Precondition: `index` is below ``count``.
    @inlinable
    package subscript(index: Int) -> UnsafeRawBufferPointer {
        precondition(index >= 0 && index < count)
        return arguments[index]
    }

    /// Whether an argument equals an option word, in any case. - Parameter word: in upper case.
    @inlinable
    package func matches(_ index: Int, _ word: StaticString) -> Bool {
        self[index].equalsIgnoringCase(word)
    }
}

/// Why a connection that broke the protocol is closed; the text is what the client is told.
package enum ProtocolError: UInt8, Sendable {
    case none
    case invalidMultibulkLength
    case invalidBulkLength
    case expectedDollar
    case unbalancedQuotes
    case tooBigInlineRequest
    case tooBigMultibulkCount
    case tooBigBulkCount
    case unauthenticatedMultibulkLength
    case unauthenticatedBulkLength
}

/// A command in a ``RequestBatch``, in plain integers so that a batch is a flat array.
package struct ParsedRequest {
    /// Index of the command name in ``RequestBatch/arguments``.
    package var firstArgument: Int
    /// 0 marks a protocol error.
    package var argumentCount: Int
    /// Index into ``RequestBatch/chunks``.
    package var chunk: Int
    /// Offset of the request's first byte and of the byte after its last one, from the chunk's base.
    package var start: Int
    package var end: Int
    /// Filled in by the server before execution: index in the command table, or -1 for an unknown command.
    package var command: Int = -1
    package var keyHash: UInt64 = 0
    package var slot: UInt16 = 0
    package var error: ProtocolError = .none
    /// For ``ProtocolError/expectedDollar``, the byte that stood there.
    package var errorByte: UInt8 = 0
    /// True when the bytes are a RESP array, so that they can be propagated as they came.
    package var isMultibulk: Bool
}

/// The bytes of one connection that a batch was parsed from.
package struct Chunk {
    package var base: UnsafePointer<UInt8>
    package var count: Int
    /// Bytes that are done with; what follows is kept for the next turn. Set by the parser, and put back by the server
    /// when a client is parked before its remaining requests ran.
    package var consumed: Int
    /// The parser stopped in front of a request, at ``RequestLimits/parsedBytesMax``.
    package var hasMore = false
    /// Set by the server when no further request of this chunk may run.
    package var isStopped = false
    /// The client and the connection that the bytes belong to; opaque here.
    package var client: UnsafeMutableRawPointer
    package var connection: UnsafeMutableRawPointer?

    package init(
        base: UnsafePointer<UInt8>, count: Int, client: UnsafeMutableRawPointer, connection: UnsafeMutableRawPointer?
    ) {
        self.base = base
        self.count = count
        self.consumed = 0
        self.client = client
        self.connection = connection
    }
}

/// Everything that was received in one turn of the loop, parsed: commands of many connections in one flat array.
///
/// The batch is the unit of work of the data path: it is filled by the read phase, executed by the command thread and
/// answered by the write phase. It owns no bytes; the chunks' memory must outlive the execution.
package struct RequestBatch: ~Copyable {
    package private(set) var arguments: UnsafeMutablePointer<UnsafeRawBufferPointer>
    package private(set) var argumentCount = 0
    private var argumentCapacity: Int
    package private(set) var requests: UnsafeMutablePointer<ParsedRequest>
    package private(set) var count = 0
    private var requestCapacity: Int
    package private(set) var chunks: UnsafeMutablePointer<Chunk>
    package private(set) var chunkCount = 0
    private var chunkCapacity: Int
    /// Words of inline commands that had quotes; they live as long as the batch.
    private var decodedWords: [UnsafeMutableRawBufferPointer] = []

    package init() {
        argumentCapacity = 4096
        arguments = .allocate(capacity: argumentCapacity)
        requestCapacity = 1024
        requests = .allocate(capacity: requestCapacity)
        chunkCapacity = 64
        chunks = .allocate(capacity: chunkCapacity)
    }

    deinit {
        arguments.deallocate()
        requests.deallocate()
        chunks.deallocate()
        for word in decodedWords { word.deallocate() }
    }

    package mutating func removeAll() {
        if !decodedWords.isEmpty {
            for word in decodedWords { word.deallocate() }
            decodedWords.removeAll()
        }
        argumentCount = 0
        count = 0
        chunkCount = 0
        if argumentCapacity > 1 << 17 {
            arguments.deallocate()
            argumentCapacity = 4096
            arguments = .allocate(capacity: argumentCapacity)
        }
    }

    /// - Returns: the index of the new chunk.
    package mutating func append(_ chunk: Chunk) -> Int {
        if chunkCount == chunkCapacity { growChunks() }
        (chunks + chunkCount).initialize(to: chunk)
        chunkCount += 1
        return chunkCount - 1
    }

    /// Marks a chunk whose client is gone: none of its requests runs, nothing of the client is touched.
    ///
    /// - Complexity: O(requests)
    package func abandon(chunk index: Int) {
        chunks[index].isStopped = true
        chunks[index].consumed = chunks[index].count
        for request in 0..<count where requests[request].chunk == index { requests[request].keyHash = 0 }
    }

    mutating func append(argument: UnsafeRawBufferPointer) {
        if argumentCount == argumentCapacity { growArguments() }
        (arguments + argumentCount).initialize(to: argument)
        argumentCount += 1
    }

    mutating func append(decodedWord bytes: [UInt8]) {
        let word = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 1), alignment: 1)
        word.copyBytes(from: bytes)
        decodedWords.append(word)
        append(argument: UnsafeRawBufferPointer(start: word.baseAddress, count: bytes.count))
    }

    mutating func append(_ request: ParsedRequest) {
        if count == requestCapacity { growRequests() }
        (requests + count).initialize(to: request)
        count += 1
    }

    /// Drops the arguments of a request that turned out to be incomplete.
    mutating func truncateArguments(to count: Int) { argumentCount = count }

    @inline(never) private mutating func growArguments() {
        arguments = Self.grown(arguments, count: argumentCount, capacity: &argumentCapacity)
    }

    @inline(never) private mutating func growRequests() {
        requests = Self.grown(requests, count: count, capacity: &requestCapacity)
    }

    @inline(never) private mutating func growChunks() {
        chunks = Self.grown(chunks, count: chunkCount, capacity: &chunkCapacity)
    }

    private static func grown<T>(
        _ old: UnsafeMutablePointer<T>, count: Int, capacity: inout Int
    ) -> UnsafeMutablePointer<T> {
        capacity *= 2
        let new = UnsafeMutablePointer<T>.allocate(capacity: capacity)
        new.moveInitialize(from: old, count: count)
        old.deallocate()
        return new
    }
}
