extension StaticString {
    /// The text as bytes, for calls that take argument views.
    @inlinable
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: utf8Start, count: utf8CodeUnitCount) }
}

extension String {
    /// A string of bytes that may not be UTF-8, for messages.
    package init(bytes: UnsafeRawBufferPointer) { self.init(decoding: bytes, as: UTF8.self) }
}
