import CLua

/// The libraries that scripts have beside Lua's own.
enum ScriptLibraries {
    /// Adds them to the globals of a state that is still open.
    static func open(_ state: OpaquePointer) {}
}
