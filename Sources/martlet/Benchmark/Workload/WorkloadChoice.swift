import MartletSystem

/// What a benchmark is to run.
enum WorkloadChoice {
    /// Nil: all of them.
    case standard(names: [String]?)
    case single([[UInt8]], title: String)
    case named(NamedWorkload)

    var isYCSB: Bool {
        if case .named(let workload) = self { return workload.isYCSB }
        return false
    }

    func list(hasRandomKeys: Bool, isCluster: Bool) throws -> [Workload] {
        switch self {
        case .standard(let names):
            return StandardTest.all(hasRandomKeys: hasRandomKeys, isCluster: isCluster).filter { test in
                names?.contains(where: test.names.contains) ?? true
            }.map(\.workload)
        case .single(let words, let title): return [Workload(title: title, .command(words))]
        case .named(let workload): return [workload.workload]
        }
    }
}

/// A mix of requests that has a name: one of YCSB's, or that of a file.
struct NamedWorkload {
    let workload: Workload
    /// The keys it is meant for, unless `--keys` says otherwise.
    let keys: KeyDistribution
    let isYCSB: Bool

    init(_ name: String, isCluster: Bool) throws(ToolFailure) {
        if let mix = try YCSB.workload(name, isCluster: isCluster) {
            workload = mix.workload
            keys = mix.keys
            isYCSB = true
            return
        }
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try FileIO.read(name)
        } catch {
            throw ToolFailure("cannot read the workload file \(name): \(error.reason)")
        }
        workload = try WorkloadFile.parse(bytes, name: name)
        keys = .uniform
        isYCSB = false
    }
}
