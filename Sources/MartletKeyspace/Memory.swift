import CJemalloc
import Glibc
import MartletBase
import Synchronization

/// The allocator of the keyspace: jemalloc, asked for exact sizes and told them when memory comes back.
package enum Memory {
    /// - Precondition: `count` is above 0.
    @inline(__always)
    static func allocate(_ count: Int) -> UnsafeMutableRawPointer {
        guard let pointer = mallocx(count, 0) else { outOfMemory(count) }
        return pointer
    }

    @inline(__always)
    static func free(_ pointer: UnsafeMutableRawPointer, _ count: Int) { sdallocx(pointer, count, 0) }

    /// The same bytes in memory of another size, as far as they fit; in place where the allocator can do that.
    ///
    /// - Precondition: both counts are above 0.
    @inline(__always)
    static func reallocate(
        _ pointer: UnsafeMutableRawPointer, from oldCount: Int, to newCount: Int
    ) -> UnsafeMutableRawPointer {
        if newCount == oldCount { return pointer }
        guard let pointer = rallocx(pointer, newCount, 0) else { outOfMemory(newCount) }
        return pointer
    }

    /// Memory on a boundary that is a power of two. - Parameter alignmentLog2: its exponent.
    static func allocate(_ count: Int, alignmentLog2: Int32) -> UnsafeMutableRawPointer {
        guard let pointer = mallocx(count, alignmentLog2) else { outOfMemory(count) }
        return pointer
    }

    static func free(_ pointer: UnsafeMutableRawPointer, _ count: Int, alignmentLog2: Int32) {
        sdallocx(pointer, count, alignmentLog2)
    }

    /// Zeroed memory on a 64-byte boundary. Large requests are mapped, so that the pages are zeroed one by one when they
    /// are first touched and can be given back piece by piece.
    static func allocateZeroedLines(_ count: Int) -> UnsafeMutableRawPointer {
        if count >= mappedBytesMin {
            let pointer = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
            guard let pointer, pointer != MAP_FAILED else { outOfMemory(count) }
            mapped.add(count, ordering: .relaxed)
            return pointer
        }
        // Flags: alignment 2^6, zero.
        guard let pointer = mallocx(count, 6 | 0x40) else { outOfMemory(count) }
        return pointer
    }

    static func freeLines(_ pointer: UnsafeMutableRawPointer, _ count: Int) {
        if count >= mappedBytesMin {
            unmap(pointer, count)
        } else {
            sdallocx(pointer, count, 6)
        }
    }

    /// Gives a part of a mapped allocation back. - Precondition: both are multiples of the page size.
    static func unmap(_ pointer: UnsafeMutableRawPointer, _ count: Int) {
        munmap(pointer, count)
        mapped.subtract(count, ordering: .relaxed)
    }

    static let mappedBytesMin = 256 * 1024

    /// Bytes of tables that are mapped outside the allocator. Background threads free tables too.
    static var mappedBytes: Int { mapped.load(ordering: .relaxed) }
    private static let mapped = Atomic<Int>(0)

    /// What an allocation of `count` bytes really takes.
    package static func usableBytes(_ count: Int) -> Int { nallocx(max(count, 1), 0) }

    /// Bytes in live allocations, tables included. - Complexity: a few microseconds.
    package static var usedBytes: Int {
        refreshStatistics()
        return statistic("stats.allocated") + mappedBytes
    }

    /// Bytes that the calling thread has allocated, less those that it has freed. For tests of lifetimes.
    package static var threadBalance: Int { statistic("thread.allocated") - statistic("thread.deallocated") }

    /// Allocator figures for INFO: allocated, active, resident, mapped.
    package static var statistics: (allocated: Int, active: Int, resident: Int, retained: Int) {
        refreshStatistics()
        return (
            statistic("stats.allocated"), statistic("stats.active"), statistic("stats.resident"),
            statistic("stats.retained")
        )
    }

    package static var allocatorName: String {
        var version: UnsafePointer<CChar>?
        var size = MemoryLayout<UnsafePointer<CChar>?>.size
        guard mallctl("version", &version, &size, nil, 0) == 0, let version else { return "jemalloc" }
        let text = String(cString: version)
        return "jemalloc-" + (text.split(separator: "-").first.map(String.init) ?? text)
    }

    /// Gives free pages back to the system. - Returns: false if the allocator does not want to.
    static func purge() -> Bool {
        // 4096 stands for all arenas. (MALLCTL_ARENAS_ALL)
        mallctl("arena.4096.purge", nil, nil, nil, 0) == 0
    }

    /// Lets a thread of the allocator give free pages back, instead of the threads that free something.
    package static func purgeInBackground(_ isOn: Bool) {
        var isOn = isOn
        _ = mallctl("background_thread", nil, nil, &isOn, MemoryLayout<Bool>.size)
    }

    /// Lets free ranges of 8 MB and more wait like others until they are given back, ten seconds at most.
    ///
    /// The allocator would give such a range back at once, in the thread that freed the last piece of it: hundreds of
    /// megabytes in one turn of the loop when a large value goes. Its option `oversize_threshold` (CMartletSystem.c) does
    /// not reach the first arena, that of the thread with the data.
    package static func keepLargeFreeRanges() {
        var threshold = Int.max
        _ = mallctl("arena.0.oversize_threshold", nil, nil, &threshold, MemoryLayout<Int>.size)
    }

    /// From how many bytes on a free range goes back at once.
    static var largeFreeRangeBytes: Int { statistic("arena.0.oversize_threshold") }

    /// The allocator's own account of itself.
    package static func report() -> [UInt8] {
        var text: [UInt8] = []
        withUnsafeMutablePointer(to: &text) { text in
            malloc_stats_print(
                { context, line in
                    guard let context, let line else { return }
                    context.assumingMemoryBound(to: [UInt8].self).pointee += UnsafeBufferPointer(
                        start: UnsafeRawPointer(line).assumingMemoryBound(to: UInt8.self), count: strlen(line))
                }, UnsafeMutableRawPointer(text), nil)
        }
        return text
    }

    private static func refreshStatistics() {
        var epoch: UInt64 = 1
        _ = mallctl("epoch", nil, nil, &epoch, MemoryLayout<UInt64>.size)
    }

    private static func statistic(_ name: String) -> Int {
        var value = 0
        var size = MemoryLayout<Int>.size
        return mallctl(name, &value, &size, nil, 0) == 0 ? value : 0
    }

    @inline(never)
    private static func outOfMemory(_ count: Int) -> Never { fatalError("Out of memory allocating \(count) bytes") }
}
