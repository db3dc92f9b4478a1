import MartletBase
import MartletPersistence
import MartletRESP
import MartletReplication

/// The primary that this node follows, from the order to follow it until another order.
final class FollowedPrimary {
    let host: String
    let port: Int
    var session: ReplicaSession
    /// Reads the image while one arrives.
    var decoder: RDBDecoder?
    /// The database that the next key of the image belongs to.
    var imageDatabase = 0
    /// Executes the stream; nil while there is none.
    var client: ClientPointer?
    /// Bytes of the stream that were not executed yet.
    var input = ByteBuffer()
    var partial: PartialRequest?
    /// Bytes that the incomplete command at the end of `input` needs at least.
    var missing = 0
    var batch = RequestBatch()
    /// A transaction from MULTI on, until its EXEC is there: it is applied as a whole or, when the link breaks, not at all.
    var transaction: ByteBuffer?
    /// The beginning of an image that is not loaded yet; nil if there is none, or loading has begun.
    var heldImage: [UInt8]?
    /// Keys of the image are in the database, but not all.
    var isPartlyLoaded = false
    /// When this node's data was last known to be what a primary of this history has: while the link is down. 0 if it
    /// never was, or is half an image.
    var lastContact: Int64 = 0

    init(host: String, port: Int, session: consuming ReplicaSession) {
        self.host = host
        self.port = port
        self.session = session
    }

    /// What a broken link leaves behind.
    func forgetStream() {
        input.removeAll()
        partial = nil
        missing = 0
        transaction = nil
        decoder?.discard()
        decoder = nil
        heldImage = nil
    }
}
