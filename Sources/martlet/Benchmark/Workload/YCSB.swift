/// The core workloads of the Yahoo! Cloud Serving Benchmark, on string values: a record is one value under the key
/// `user:NUMBER`, 1000 bytes unless told otherwise.
///
/// | | mix | keys |
/// |---|---|---|
/// | a | 50 % read, 50 % update | zipfian |
/// | b | 95 % read, 5 % update | zipfian |
/// | c | read | zipfian |
/// | d | 95 % read, 5 % insert | latest |
/// | e | 95 % scan of 1 to 100 records (MGET), 5 % insert | zipfian |
/// | f | 50 % read, 50 % read, then write the same record; the write does not wait for the read's reply | zipfian |
///
/// Source: Cooper and others, "Benchmarking cloud serving systems with YCSB" (2010), and its files `workloads/workload?`.
enum YCSB {
    static func workload(
        _ name: String, isCluster: Bool
    ) throws(ToolFailure) -> (workload: Workload, keys: KeyDistribution)? {
        let zipfian = KeyDistribution.zipfian(theta: 0.99)
        switch name {
        case "ycsb-load": return (mix(name, [update("INSERT", 1)]), .sequential)
        case "ycsb-a": return (mix(name, [read(50), update("UPDATE", 50)]), zipfian)
        case "ycsb-b": return (mix(name, [read(95), update("UPDATE", 5)]), zipfian)
        case "ycsb-c": return (mix(name, [read(100)]), zipfian)
        case "ycsb-d": return (mix(name, [read(95), insert(5)]), .latest(theta: 0.99))
        case "ycsb-e":
            guard !isCluster else {
                throw ToolFailure("ycsb-e reads many keys with one MGET, which a cluster does not do across slots")
            }
            return (mix(name, scans(weight: 95) + [insert(5)]), zipfian)
        case "ycsb-f":
            let write = Workload.Operation(
                weight: 50, label: "READ-MODIFY-WRITE",
                requests: [.words("GET user:__key__"), .words("SET user:__key__ __data__")])
            return (mix(name, [read(50), write]), zipfian)
        default:
            guard !name.hasPrefix("ycsb-") else {
                throw ToolFailure("'\(name)' is none of ycsb-load, ycsb-a, ycsb-b, ycsb-c, ycsb-d, ycsb-e, ycsb-f")
            }
            return nil
        }
    }

    private static func mix(_ name: String, _ operations: [Workload.Operation]) -> Workload {
        Workload(title: "YCSB-\(name.dropFirst(5).uppercased())", operations: operations)
    }

    private static func read(_ weight: Double) -> Workload.Operation {
        Workload.Operation(weight: weight, label: "READ", requests: [.words("GET user:__key__")])
    }

    private static func update(_ label: String, _ weight: Double) -> Workload.Operation {
        Workload.Operation(weight: weight, label: label, requests: [.words("SET user:__key__ __data__")])
    }

    private static func insert(_ weight: Double) -> Workload.Operation {
        Workload.Operation(weight: weight, label: "INSERT", requests: [.words("SET user:__new__ __data__")])
    }

    /// All lengths from 1 to 100 are equally likely.
    private static func scans(weight: Double) -> [Workload.Operation] {
        (1...100).map { length in
            let keys = (0..<length).map { "user:__key+\($0)__" }.joined(separator: " ")
            return Workload.Operation(weight: weight / 100, label: "SCAN", requests: [.words("MGET \(keys)")])
        }
    }
}
