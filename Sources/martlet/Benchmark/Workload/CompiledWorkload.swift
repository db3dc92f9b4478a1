import MartletBase

// A workload as the send path reads it: every request is encoded once, and what changes from one use to the next is a
// short list of patches. Sending a request then means to copy its bytes and to write digits into the copy.
//
// A request whose values differ in size cannot be encoded once. It is cut at its values into steps: bytes to copy, the
// header of an argument, the value itself. All other requests have one step.

/// The encoded requests of a workload, in memory that never moves, shared by all threads and never changed.
package final class CompiledWorkload: @unchecked Sendable {
    struct Patch {
        enum Kind: UInt8 { case random, key, new, tag }
        let kind: Kind
        /// From the start of the step's bytes.
        let offset: Int
        /// Of `key`.
        let addend: UInt64
    }

    struct Step {
        enum Kind: UInt8 { case bytes, header, data }
        let kind: Kind
        /// `bytes`: offset in ``bytes``.
        let start: Int
        /// `bytes`: how many. `header`: bytes of the argument beside its values.
        let count: Int
        /// `bytes`: patches. `header`: how many values the argument holds, in `count`.
        let patches: Range<Int>
        /// `header`: values in the argument.
        let valueCount: Int
    }

    struct Request {
        let steps: Range<Int>
        /// Where the key that decides about the node stands: in which step, from the start of that step's bytes. Nil
        /// when no key is known, or a value comes into it.
        let key: Key?
    }

    struct Key {
        let step: Int
        let offset: Int
        let count: Int
    }

    package struct Operation {
        package let requests: Range<Int>
        package let label: UInt16
    }

    /// What reports call the operations.
    package let labels: [String]
    /// Requests of an operation of each label; operations of one label have as many.
    package let requestCounts: [Int]
    let bytes: UnsafePointer<UInt8>
    /// As many bytes as the largest value has.
    let data: UnsafePointer<UInt8>
    let steps: UnsafePointer<Step>
    let patches: UnsafePointer<Patch>
    let requests: UnsafePointer<Request>
    let operations: UnsafePointer<Operation>
    let choice: AliasTable
    let sizes: SizeDistribution
    /// Set when each request has the same bytes but for patches of fixed width: its count of bytes.
    package let uniformBytes: Int?
    /// Requests of the longest operation.
    package let requestsPerOperationMax: Int

    /// - Parameter keyPosition: the index of the argument that is the (first) key of a command; nil if it has none.
    package init(
        _ workload: Workload, sizes: SizeDistribution, enabled: Placeholder.Enabled,
        keyPosition: ([[UInt8]]) -> Int? = { _ in nil }
    ) {
        var builder = Builder(sizes: sizes, enabled: enabled)
        var labels: [String] = []
        var requestCounts: [Int] = []
        var operations: [Operation] = []
        for operation in workload.operations {
            let first = builder.requests.count
            for request in operation.requests { builder.add(request, keyPosition: keyPosition) }
            let label = labels.firstIndex(of: operation.label) ?? labels.count
            if label == labels.count {
                labels.append(operation.label)
                requestCounts.append(operation.requests.count)
            }
            operations.append(Operation(requests: first..<builder.requests.count, label: UInt16(label)))
        }
        let isUniform =
            builder.requests.count == 1 && builder.requests[0].steps.count == 1 && builder.steps[0].kind == .bytes
        uniformBytes = isUniform ? builder.steps[0].count : nil
        requestsPerOperationMax = operations.map(\.requests.count).max()!
        self.labels = labels
        self.requestCounts = requestCounts
        self.sizes = sizes
        choice = AliasTable(weights: workload.operations.map(\.weight))
        data = frozen(builder.data)
        bytes = frozen(builder.bytes)
        steps = frozen(builder.steps)
        patches = frozen(builder.patches)
        requests = frozen(builder.requests)
        self.operations = frozen(operations)
    }

    deinit {
        data.deallocate()
        bytes.deallocate()
        steps.deallocate()
        patches.deallocate()
        requests.deallocate()
        operations.deallocate()
    }

    private struct Builder {
        let sizes: SizeDistribution
        let enabled: Placeholder.Enabled
        let data: [UInt8]
        var bytes: [UInt8] = []
        var steps: [Step] = []
        var patches: [Patch] = []
        var requests: [Request] = []
        /// Where the bytes and the patches of the step in the making began.
        var stepStart = 0
        var firstPatch = 0

        init(sizes: SizeDistribution, enabled: Placeholder.Enabled) {
            self.sizes = sizes
            self.enabled = enabled
            data = valueBytes(count: sizes.bytesMax)
        }

        mutating func add(_ request: Workload.Request, keyPosition: ([[UInt8]]) -> Int?) {
            let firstStep = steps.count
            var key: Key?
            switch request {
            case .raw(let raw): bytes += raw
            case .command(let arguments):
                let position = keyPosition(arguments)
                bytes += Array("*\(arguments.count)\r\n".utf8)
                for (index, argument) in arguments.enumerated() {
                    let parts = Placeholder.parts(of: argument, enabled)
                    let place = addArgument(parts)
                    if index == position, let place { key = place }
                }
            }
            endBytesStep()
            requests.append(Request(steps: firstStep..<steps.count, key: key))
        }

        /// Returns where the argument's bytes stand, nil if a value of varying size is among them.
        private mutating func addArgument(_ parts: [Placeholder.Part]) -> Key? {
            var count = 0
            var valueCount = 0
            for part in parts {
                switch part {
                case .bytes(let literal): count += literal.count
                case .placeholder(.data): valueCount += 1
                case .placeholder(.tag): count += HashTags.bytesPerTag + 2
                case .placeholder: count += Placeholder.digitCount
                }
            }
            let varies = valueCount > 0 && sizes.fixedBytes == nil
            if varies {
                endBytesStep()
                steps.append(Step(kind: .header, start: 0, count: count, patches: 0..<0, valueCount: valueCount))
            } else {
                bytes += Array("$\(count + valueCount * (sizes.fixedBytes ?? 0))\r\n".utf8)
            }
            let start = bytes.count
            for part in parts {
                switch part {
                case .bytes(let literal): bytes += literal
                case .placeholder(.data):
                    if varies {
                        endBytesStep()
                        steps.append(Step(kind: .data, start: 0, count: 0, patches: 0..<0, valueCount: 0))
                    } else {
                        bytes += data
                    }
                case .placeholder(.random): addNumber(.random)
                case .placeholder(.key(let addend)): addNumber(.key, addend: addend)
                case .placeholder(.new): addNumber(.new)
                case .placeholder(.tag):
                    patches.append(Patch(kind: .tag, offset: bytes.count + 1 - stepStart, addend: 0))
                    bytes += Array("{tag}".utf8)
                }
            }
            let place = Key(step: steps.count, offset: start - stepStart, count: bytes.count - start)
            bytes += [13, 10]
            return varies ? nil : place
        }

        private mutating func addNumber(_ kind: Patch.Kind, addend: UInt64 = 0) {
            patches.append(Patch(kind: kind, offset: bytes.count - stepStart, addend: addend))
            bytes += [UInt8](repeating: UInt8(ascii: "0"), count: Placeholder.digitCount)
        }

        private mutating func endBytesStep() {
            if bytes.count > stepStart {
                steps.append(
                    Step(
                        kind: .bytes, start: stepStart, count: bytes.count - stepStart,
                        patches: firstPatch..<patches.count, valueCount: 0))
            }
            stepStart = bytes.count
            firstPatch = patches.count
        }
    }
}

/// The bytes of values: printable, and no compressor's favourite. The generator is redis-benchmark's, so that both
/// programs store the same values.
package func valueBytes(count: Int) -> [UInt8] {
    var state: UInt32 = 1234
    return (0..<count).map { _ in
        state = state &* 1_103_515_245 &+ 12345
        return UInt8(ascii: "0") + UInt8(state >> 16 & 63)
    }
}

/// A copy that never moves.
private func frozen<Element>(_ elements: [Element]) -> UnsafePointer<Element> {
    let copy = UnsafeMutablePointer<Element>.allocate(capacity: max(elements.count, 1))
    elements.withUnsafeBufferPointer { if let base = $0.baseAddress { copy.initialize(from: base, count: $0.count) } }
    return UnsafePointer(copy)
}
