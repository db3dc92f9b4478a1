import MartletBase

/// Writes the requests of a workload, each with its own random numbers. One per thread.
package struct Composer: ~Copyable {
    package let workload: CompiledWorkload
    private var random: PRNG
    private let keys: KeySource
    private let tags: HashTags?
    // Of the operation in hand.
    private var key: UInt64 = 0
    private var hasKey = false
    private var new: UInt64 = 0
    private var hasNew = false
    private var slot = HashSlot(rawValue: 0)
    private var hasSlot = false

    package init(_ workload: CompiledWorkload, keys: consuming KeySource, tags: HashTags?, seed: UInt64) {
        self.workload = workload
        self.keys = keys
        self.tags = tags
        random = PRNG(seed: seed)
    }

    /// Draws an operation; compose its requests next, in their order.
    package mutating func nextOperation() -> UnsafePointer<CompiledWorkload.Operation> {
        hasKey = false
        hasNew = false
        hasSlot = false
        return workload.operations + workload.choice.draw(&random)
    }

    /// Appends a request of the operation drawn last and returns the count of its bytes.
    ///
    /// - Parameter keySlot: set to the slot of the request's key if it has a known one.
    package mutating func compose(_ index: Int, into output: inout ByteBuffer, keySlot: inout HashSlot?) -> Int {
        let request = workload.requests + index
        let before = output.count
        var valueBytes = 0
        for number in request.pointee.steps {
            let step = workload.steps + number
            switch step.pointee.kind {
            case .bytes:
                let place = output.reserve(step.pointee.count)
                place.copyMemory(from: workload.bytes + step.pointee.start, byteCount: step.pointee.count)
                patch(step, at: place)
                if let key = request.pointee.key, key.step == number {
                    keySlot = HashSlot.of(UnsafeRawBufferPointer(start: place + key.offset, count: key.count))
                }
                output.commit(step.pointee.count)
            case .header:
                valueBytes = workload.sizes.draw(&random)
                let place = output.reserve(int64DecimalBytesMax + 3)
                place.storeBytes(of: UInt8(ascii: "$"), as: UInt8.self)
                let count = step.pointee.count + step.pointee.valueCount * valueBytes
                let digitCount = writeDecimal(UInt64(count), to: place + 1)
                place.storeBytes(of: 13, toByteOffset: 1 + digitCount, as: UInt8.self)
                place.storeBytes(of: 10, toByteOffset: 2 + digitCount, as: UInt8.self)
                output.commit(digitCount + 3)
            case .data: output.append(UnsafeRawBufferPointer(start: workload.data, count: valueBytes))
            }
        }
        return output.count - before
    }

    /// Appends the only request of a uniform workload with all numbers 0.
    package func appendUnpatched(into output: inout ByteBuffer) {
        let count = workload.steps.pointee.count
        output.append(UnsafeRawBufferPointer(start: workload.bytes, count: count))
    }

    /// Gives the only request of a uniform workload, which already stands at `bytes`, new numbers.
    package mutating func repatch(_ bytes: UnsafeMutableRawPointer) {
        hasKey = false
        hasNew = false
        hasSlot = false
        patch(workload.steps, at: bytes)
    }

    @inline(__always)
    private mutating func patch(_ step: UnsafePointer<CompiledWorkload.Step>, at bytes: UnsafeMutableRawPointer) {
        var index = step.pointee.patches.lowerBound
        let end = step.pointee.patches.upperBound
        while index < end {
            let patch = workload.patches + index
            let place = bytes + patch.pointee.offset
            switch patch.pointee.kind {
            case .random: writeTwelveDigits(keys.draw(&random), to: place)
            case .key: writeTwelveDigits(operationKey(plus: patch.pointee.addend), to: place)
            case .new: writeTwelveDigits(operationNew(), to: place)
            case .tag: tags!.write(operationSlot(), to: place)
            }
            index &+= 1
        }
    }

    private mutating func operationKey(plus addend: UInt64) -> UInt64 {
        if !hasKey {
            key = keys.draw(&random)
            hasKey = true
        }
        return addend == 0 ? key : (key + addend) % keys.keyCount
    }

    private mutating func operationNew() -> UInt64 {
        if !hasNew {
            new = keys.add()
            hasNew = true
        }
        return new
    }

    private mutating func operationSlot() -> HashSlot {
        if !hasSlot {
            slot = HashSlot(rawValue: UInt16(truncatingIfNeeded: random.next() >> 50))
            hasSlot = true
        }
        return slot
    }
}

/// Writes `value` as 12 digits with leading zeros; what is above 12 digits is cut off.
@inline(__always)
package func writeTwelveDigits(_ value: UInt64, to place: UnsafeMutableRawPointer) {
    // Two independent chains of divisions by 100 keep the processor busy.
    var high = UInt32(truncatingIfNeeded: value / 1_000_000 % 1_000_000)
    var low = UInt32(truncatingIfNeeded: value % 1_000_000)
    for offset in stride(from: 4, through: 0, by: -2) {
        place.storeBytes(of: twoDigits(high % 100), toByteOffset: offset, as: UInt16.self)
        place.storeBytes(of: twoDigits(low % 100), toByteOffset: offset &+ 6, as: UInt16.self)
        high /= 100
        low /= 100
    }
}

/// `value`, below 100, as two characters in memory order.
@inline(__always)
private func twoDigits(_ value: UInt32) -> UInt16 {
    let tens = (value &* 103) &>> 10
    let ones = value &- tens &* 10
    return UInt16(truncatingIfNeeded: (tens | ones &<< 8) &+ 0x3030).littleEndian
}
