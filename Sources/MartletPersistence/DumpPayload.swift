import MartletBase
import MartletKeyspace

/// Why RESTORE refuses a payload; the command layer has a text for each.
package enum DumpPayloadError: Error, Equatable, Sendable {
    /// Too short for a footer, a version newer than what can be read, or a wrong checksum.
    case versionOrChecksum
    /// The footer is right, and what it covers is no value of a type that is known here.
    case badFormat(RDBError.Cause)
}

/// What DUMP hands out and RESTORE takes: type, value, version (2 bytes), CRC-64 (8 bytes), all little endian. FUNCTION
/// DUMP puts libraries in place of type and value.
///
/// Written by ``RDBEncoder/appendDump(_:)``, with the version that Redis 7.0 still accepts.
/// Source: Redis 7.0 cluster.c, `createDumpPayload` and `verifyDumpPayload`.
package enum DumpPayload {
    private static let footerCount = 10

    /// The value in `payload`: a view into it or into `scratch`, or a container that belongs to the caller.
    ///
    /// - Parameter members: where the members of a container are from.
    package static func decode(
        _ payload: UnsafeRawBufferPointer, scratch: inout ByteBuffer, members: MemberStorePointer,
        stringBytesMax: Int = RDBDecoder.stringBytesMax
    ) throws(DumpPayloadError) -> RDBValue {
        guard let body = body(of: payload) else { throw .versionOrChecksum }
        var reader = RDBReader(body, stringBytesMax: stringBytesMax)
        do throws(RDBReadFailure) {
            let value = try value(&reader, &scratch, members)
            guard reader.offset == body.count else {
                if case .container(let container) = value { container.destroy() }
                throw .invalid(.invalidLength)
            }
            return value
        } catch {
            switch error {
            case .incomplete: throw .badFormat(.truncated)
            case .invalid(let cause): throw .badFormat(cause)
            }
        }
    }

    private static func value(
        _ reader: inout RDBReader, _ scratch: inout ByteBuffer, _ members: MemberStorePointer
    ) throws(RDBReadFailure) -> RDBValue {
        let code = try reader.byte()
        guard let type = RDBValueType(rawValue: code) else { throw .invalid(.unknownOpcode(code)) }
        if type == .string { return try reader.stringValue(scratch: &scratch) }
        var secondScratch = ByteBuffer()
        var builder = try RDBValueBuilder(type, members)
        do throws(RDBReadFailure) {
            while try !builder.step(&reader, &scratch, &secondScratch) {}
        } catch {
            builder.discard()
            throw error
        }
        guard let container = builder.take() else { throw .invalid(.corruptValue(type)) }
        return .container(container)
    }

    /// What stands before the footer; nil if the footer is wrong or of a version that cannot be read.
    package static func body(of payload: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard payload.count >= footerCount else { return nil }
        let bodyCount = payload.count - footerCount
        let version = UInt16(littleEndian: payload.loadUnaligned(fromByteOffset: bodyCount, as: UInt16.self))
        let checksum = UInt64(littleEndian: payload.loadUnaligned(fromByteOffset: bodyCount + 2, as: UInt64.self))
        guard RDBVersion.isReadable(Int(version)),
            crc64(UnsafeRawBufferPointer(rebasing: payload[..<(bodyCount + 2)])) == checksum
        else { return nil }
        return UnsafeRawBufferPointer(rebasing: payload[..<bodyCount])
    }

    /// Puts the footer behind a body that begins at `start`.
    package static func appendFooter(
        to output: inout ByteBuffer, bodyFrom start: Int = 0, version: Int = RDBVersion.redis70
    ) {
        output.append(byte: UInt8(truncatingIfNeeded: version))
        output.append(byte: UInt8(truncatingIfNeeded: version >> 8))
        var checksum = crc64(UnsafeRawBufferPointer(rebasing: output.bytes[start...])).littleEndian
        withUnsafeBytes(of: &checksum) { output.append($0) }
    }
}

/// Why FUNCTION RESTORE refuses a payload.
package enum LibraryPayloadError: Error, Equatable, Sendable {
    case versionOrChecksum
    /// Something else than a library.
    case otherType
    /// A library that is cut off, or not well formed.
    case badFormat
}

/// The libraries in a payload of FUNCTION DUMP, one after the other.
package struct LibraryPayload: ~Copyable {
    private var reader: RDBReader
    private let count: Int
    private var scratch = ByteBuffer()

    package init(_ payload: UnsafeRawBufferPointer) throws(LibraryPayloadError) {
        guard let body = DumpPayload.body(of: payload) else { throw .versionOrChecksum }
        reader = RDBReader(body, stringBytesMax: RDBDecoder.stringBytesMax)
        count = body.count
    }

    /// The source of the next library; valid until the next call. Nil behind the last one.
    package mutating func next() throws(LibraryPayloadError) -> UnsafeRawBufferPointer? {
        guard reader.offset < count else { return nil }
        do throws(RDBReadFailure) {
            switch try reader.byte() {
            case RDBOpcode.function: return try reader.bytes(scratch: &scratch)
            case RDBOpcode.functionPreRelease: return try reader.preReleaseFunction(scratch: &scratch)
            default: break
            }
        } catch {
            throw .badFormat
        }
        throw .otherType
    }
}
