/// The libraries that scripts have beside Lua's own. Written here, because Debian's forms of `cjson` and `bit` overflow where
/// Redis' do not (CVE-2022-24834, CVE-2024-31449), and there are none of the others.
enum ScriptLibraries {
    /// Adds them to the globals of a state that is still open.
    static func open(_ state: OpaquePointer) {
        JSONLibrary.register(in: state)
        MessagePackLibrary.register(in: state)
        StructLibrary.register(in: state)
        BitLibrary.register(in: state)
    }
}
