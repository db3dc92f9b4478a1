import MartletBase
import Testing

@Suite struct ByteBufferTests {
    @Test("A buffer behaves as a queue of bytes, whatever is appended and consumed")
    func model() {
        let seed: UInt64 = 0xB0FFE4
        var random = PRNG(seed: seed)
        for round in 0..<50 {
            var buffer = ByteBuffer()
            var model: [UInt8] = []
            for _ in 0..<300 {
                switch random.below(6) {
                case 0, 1:
                    let bytes = (0..<random.below(400)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                    buffer.append(bytes)
                    model += bytes
                case 2:
                    let byte = UInt8(truncatingIfNeeded: random.next())
                    buffer.append(byte: byte)
                    model.append(byte)
                case 3:
                    let room = buffer.reserve(16)
                    room.storeBytes(of: 7, as: UInt8.self)
                    buffer.commit(1)
                    model.append(7)
                case 4:
                    let count = random.below(model.count + 1)
                    buffer.removeFirst(count)
                    model.removeFirst(count)
                default:
                    let count = model.count - random.below(min(model.count, 20) + 1)
                    buffer.truncate(to: count)
                    model.removeLast(model.count - count)
                }
                let bytes = Array(buffer.bytes)
                #expect(bytes == model, "seed \(seed), round \(round)")
            }
        }
    }

    @Test("An emptied buffer gives a large allocation back and keeps a small one")
    func capacity() {
        var buffer = ByteBuffer()
        buffer.append([UInt8](repeating: 1, count: ByteBuffer.keptCapacityMax + 1))
        buffer.removeFirst(buffer.count)
        let capacity = buffer.capacity
        #expect(capacity < ByteBuffer.keptCapacityMax)
    }
}
