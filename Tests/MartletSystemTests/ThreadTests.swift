import Glibc
import MartletSystem
import Synchronization
import Testing

@Suite struct ThreadTests {
    @Test("A thread runs its closure, and join waits for it")
    func join() throws {
        let counter = Atomic<Int>(0)
        let box = Counter()
        for _ in 0..<8 {
            let thread = try Thread(name: "a name longer than fifteen bytes", stackBytes: 1 << 18) {
                box.value.wrappingAdd(1, ordering: .relaxed)
            }
            thread.join()
            counter.wrappingAdd(1, ordering: .relaxed)
            #expect(box.value.load(ordering: .relaxed) == counter.load(ordering: .relaxed))
        }
    }

    @Test("Two senders and one receiver: every message arrives once, each sender's in order")
    func mailbox() throws {
        let mailbox = try Mailbox<(sender: Int, number: Int)>()
        let perSender = 20_000
        var threads = Threads()
        for sender in 0..<2 {
            threads.add(
                try Thread(name: "sender") {
                    for number in 0..<perSender { mailbox.post((sender, number)) }
                })
        }
        var poller = try Poller(eventsMax: 4)
        try poller.add(mailbox.wakeup.fd, .readable, token: 1)
        var next = [0, 0]
        var batch: [(sender: Int, number: Int)] = []
        while next[0] < perSender || next[1] < perSender {
            let count = poller.wait(timeoutMilliseconds: 10_000)
            try #require(count == 1, "a wake-up was lost")
            mailbox.drain(into: &batch)
            for message in batch {
                guard message.number == next[message.sender] else { throw Unexpected() }
                next[message.sender] += 1
            }
        }
        threads.joinAll()
        mailbox.drain(into: &batch)
        #expect(batch.isEmpty)
    }

    @Test("A mailbox takes as many messages as its limit and not one more")
    func mailboxLimit() throws {
        let mailbox = try Mailbox<Int>(countMax: 3)
        #expect((0..<3).allSatisfy { mailbox.post($0) })
        #expect(!mailbox.post(3))
        var batch: [Int] = [99]
        mailbox.drain(into: &batch)
        #expect(batch == [0, 1, 2])
        #expect(mailbox.post(4))
    }

    @Test("A reader of a published reference sees the newest object and never an older one again")
    func published() throws {
        let reference = PublishedReference(Numbered(0))
        var reader = PublishedReference.Reader(reference)
        var isNew = reader.refresh()
        #expect(!isNew)
        let writer = try Thread(name: "writer") { for number in 1...10_000 { reference.publish(Numbered(number)) } }
        var last = 0
        while last < 10_000 {
            reader.refresh()
            guard reader.value.number >= last else { throw Unexpected() }
            last = reader.value.number
        }
        writer.join()
        reader.refresh()
        #expect(reader.value.number == 10_000)
        isNew = reader.refresh()
        #expect(!isNew)
    }

    @Test("The background worker runs jobs in order, and finish waits for them")
    func worker() throws {
        let worker = try BackgroundWorker(name: "worker")
        let box = Log()
        for number in 0..<100 { worker.post(.run { box.numbers.withLock { $0.append(number) } }) }
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        worker.post(.close(fd: ends[1]))
        try worker.finish()
        #expect(box.numbers.withLock { $0 } == Array(0..<100))
        var byte: UInt8 = 0
        #expect(read(ends[0], &byte, 1) == 0, "the writing end is closed")
        close(ends[0])
    }

    @Test("What a job owns is given up when the job is done, not when the next one comes")
    func workerLetsGo() throws {
        let worker = try BackgroundWorker(name: "worker")
        let gone = try WakeupFD()
        var poller = try Poller(eventsMax: 1)
        try poller.add(gone.fd, .readable, token: 0)
        post(worker, gone)
        #expect(poller.wait(timeoutMilliseconds: 20_000) == 1)

        func post(_ worker: BackgroundWorker, _ gone: WakeupFD) {
            let owned = Owned(gone)
            worker.post(.run { _ = owned })
        }
    }
}

private final class Owned: Sendable {
    let gone: WakeupFD
    init(_ gone: WakeupFD) { self.gone = gone }
    deinit { gone.signal() }
}

final class Counter: Sendable { let value = Atomic<Int>(0) }

private final class Log: Sendable { let numbers = Mutex<[Int]>([]) }

private final class Numbered: Sendable {
    let number: Int
    init(_ number: Int) { self.number = number }
}

/// Threads are noncopyable, so they do not fit in an Array.
private struct Threads: ~Copyable {
    private var first: Thread?
    private var second: Thread?

    mutating func add(_ thread: consuming Thread) {
        if first == nil { first = consume thread } else { second = consume thread }
    }

    mutating func joinAll() {
        first.take()?.join()
        second.take()?.join()
    }
}
