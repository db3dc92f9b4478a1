/// What happens next: actions in the order of virtual time, and of equal times in the order in which they were asked
/// for. That order is the whole of the simulator's determinism.
///
/// - Complexity: O(log n) per operation.
struct EventQueue {
    private struct Entry {
        var time: Int64
        var order: UInt64
        var slot: Int32

        static func < (left: Entry, right: Entry) -> Bool {
            left.time != right.time ? left.time < right.time : left.order < right.order
        }
    }

    /// A binary heap. Actions lie apart: moving entries then costs no reference counting.
    private var heap: [Entry] = []
    private var actions: [(() -> Void)?] = []
    private var freeSlots: [Int32] = []
    private var order: UInt64 = 0

    var isEmpty: Bool { heap.isEmpty }
    var nextTime: Int64? { heap.first?.time }

    mutating func add(at time: Int64, _ action: @escaping () -> Void) {
        order += 1
        let slot: Int32
        if let free = freeSlots.popLast() {
            slot = free
            actions[Int(slot)] = action
        } else {
            slot = Int32(actions.count)
            actions.append(action)
        }
        var index = heap.count
        let entry = Entry(time: time, order: order, slot: slot)
        heap.append(entry)
        while index > 0 {
            let parent = (index - 1) / 2
            guard entry < heap[parent] else { break }
            heap[index] = heap[parent]
            index = parent
        }
        heap[index] = entry
    }

    mutating func popFirst() -> (time: Int64, action: () -> Void)? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        if !heap.isEmpty {
            var index = 0
            while true {
                var child = 2 * index + 1
                guard child < heap.count else { break }
                if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
                guard heap[child] < last else { break }
                heap[index] = heap[child]
                index = child
            }
            heap[index] = last
        }
        let action = actions[Int(first.slot)]
        actions[Int(first.slot)] = nil
        freeSlots.append(first.slot)
        guard let action else { preconditionFailure("an action runs once") }
        return (first.time, action)
    }

    mutating func removeAll() {
        heap = []
        actions = []
        freeSlots = []
    }
}
