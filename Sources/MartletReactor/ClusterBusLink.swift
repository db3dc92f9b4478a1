import MartletCluster
import MartletSystem

/// One connection of the cluster bus: its descriptor, the packet that is arriving, the bytes that wait to leave.
///
/// Between two nodes there are two, one dialled by each side. The core knows a link by its id only. Owned by the bus
/// thread.
final class ClusterBusLink {
    /// A peer that reads nothing is cut off here even when cluster-link-sendbuf-limit is 0 (no limit).
    static let sendBytesMax = 1 << 30
    /// An emptied buffer larger than this is given back.
    private static let keptBytesMax = 1 << 16

    enum Phase {
        /// Dialled, not answered yet.
        case connecting
        case open
        /// The core has let go of it; it closes when its last bytes have left or `deadline` has come.
        case lingering
        case closed
    }

    let id: BusLinkID
    let fd: Int32
    let isInbound: Bool
    var phase: Phase
    var assembler = BusPacketAssembler()
    /// What this link contributes to the sum over all links.
    var assemblyByteCount = 0
    /// Monotonic milliseconds at which a connecting or lingering link, or a silent one of a stranger, is given up.
    var deadline: Int64
    /// We dialled it, or a member of the cluster did.
    var isTrusted: Bool
    /// In the list of links to flush at the end of the turn.
    var isMarkedForFlush = false
    /// Whether the poller is asked for writability.
    var awaitsWritable: Bool

    /// The bytes `sendOffset...` wait to leave.
    private var sendBytes: [UInt8] = []
    private var sendOffset = 0

    init(id: BusLinkID, fd: Int32, isInbound: Bool, phase: Phase, deadline: Int64) {
        self.id = id
        self.fd = fd
        self.isInbound = isInbound
        isTrusted = !isInbound
        self.phase = phase
        self.deadline = deadline
        awaitsWritable = phase == .connecting
    }

    var queuedByteCount: Int { sendBytes.count - sendOffset }

    func wouldAccept(_ byteCount: Int) -> Bool { byteCount <= Self.sendBytesMax - queuedByteCount }

    /// False when the queue would go over its limit.
    func enqueue(_ packet: [UInt8]) -> Bool {
        guard wouldAccept(packet.count) else { return false }
        if sendOffset > sendBytes.count / 2 {
            sendBytes.removeFirst(sendOffset)
            sendOffset = 0
        }
        if sendBytes.isEmpty { sendBytes = packet } else { sendBytes.append(contentsOf: packet) }
        return true
    }

    enum FlushResult {
        case drained
        case wouldBlock
        case failed(SystemError)
    }

    func flush() -> FlushResult {
        while queuedByteCount > 0 {
            let result = sendBytes.withUnsafeBytes {
                Socket.send(fd, from: $0.baseAddress! + sendOffset, count: $0.count - sendOffset)
            }
            switch result {
            case .transferred(let count): sendOffset += count
            case .wouldBlock: return .wouldBlock
            case .failed(let error): return .failed(error)
            case .endOfStream: return .drained
            }
        }
        sendOffset = 0
        if sendBytes.capacity > Self.keptBytesMax {
            sendBytes = []
        } else {
            sendBytes.removeAll(keepingCapacity: true)
        }
        return .drained
    }
}

extension BusLinkCloseReason {
    /// What an errno says about the peer. A refusal is evidence that its process is gone.
    init(_ error: SystemError) {
        if error.isRefused {
            self = .refused
        } else if error.isReset {
            self = .reset
        } else if error.isTimeout {
            self = .timedOut
        } else {
            self = .unreachable
        }
    }
}
