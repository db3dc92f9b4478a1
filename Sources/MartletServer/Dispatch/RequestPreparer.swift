import MartletBase
import MartletRESP

/// Finds the commands of parsed requests, and hashes their keys: what can be done before a request has its turn, by
/// whatever thread received it.
///
/// Holds nothing that ever changes: names and key positions of commands, the hash seed, the mode. Valid as long as the node.
package struct RequestPreparer: @unchecked Sendable {
    let names: CommandNames
    let hot: UnsafePointer<HotCommand>
    let seed: HashSeed
    let isClustered: Bool

    /// Prepares the requests of a batch from `first` on.
    package func prepare(_ batch: borrowing RequestBatch, from first: Int) {
        let requests = batch.requests
        let arguments = batch.arguments
        for index in first..<batch.count {
            let request = requests + index
            guard request.pointee.argumentCount > 0 else { continue }
            let argument = arguments + request.pointee.firstArgument
            let command = names.index(of: argument.pointee)
            request.pointee.command = command
            guard command >= 0 else { continue }
            let firstKey = Int((hot + command).pointee.firstKey)
            guard firstKey > 0, firstKey < request.pointee.argumentCount else { continue }
            let key = (argument + firstKey).pointee
            request.pointee.keyHash = sipHash13(key, seed: seed)
            if isClustered { request.pointee.slot = HashSlot.of(key).rawValue }
        }
    }
}
