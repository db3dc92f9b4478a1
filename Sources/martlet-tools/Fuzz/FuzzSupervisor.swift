import Glibc

/// Runs the cases of one target in a child process and watches it.
struct FuzzSupervisor {
    var target: FuzzTarget
    var seed: UInt64
    var seconds: Double
    var deadlineSeconds: Double
    /// Beyond what the child had after its first cases.
    var growthBytesMax: Int

    private enum Failure {
        case crash(ChildProcess.Status)
        case hang
        case growth(Int)
    }

    /// - Returns: whether no case failed. Stops at the first one that does.
    func run() throws -> Bool {
        let path = "/tmp/martlet-fuzz-\(getpid())-\(target.name)"
        defer { unlink(path) }
        let page = try ProgressPage(path: path)
        page.begin(0)
        let start = monotonicNanoseconds()
        let child = try ChildProcess([
            "/proc/self/exe", "fuzz", target.name, "--seed", "\(seed)", "--worker", path,
        ])
        var baselineBytes = 0
        var peakGrowthBytes = 0
        var failure: Failure?
        while failure == nil, seconds(since: start) < seconds {
            usleep(50_000)
            if let status = child.poll() {
                failure = .crash(status)
            } else if seconds(since: page.startNanoseconds) > deadlineSeconds {
                failure = .hang
            } else if seconds(since: start) > min(2, seconds / 4) {
                // Only now: tables, buffers and the allocator's caches have reached their size.
                let bytes = child.residentBytes
                if baselineBytes == 0 { baselineBytes = bytes }
                peakGrowthBytes = max(peakGrowthBytes, bytes - baselineBytes)
                if peakGrowthBytes > growthBytesMax { failure = .growth(peakGrowthBytes) }
            }
        }
        if case .crash = failure {
        } else {
            child.kill()
            _ = child.wait()
        }
        let count = page.number
        let rate = Int(Double(count) / seconds(since: start))
        guard let failure else {
            print("ok    \(target.name): \(count) cases, \(rate)/s, seed \(seed), grew by \(peakGrowthBytes >> 20) MB")
            return true
        }
        report(failure, at: count)
        return false
    }

    private func report(_ failure: Failure, at number: UInt64) {
        let what =
            switch failure {
            case .crash(let status): "crashed (\(status))"
            case .hang: "did not finish within \(deadlineSeconds) s"
            case .growth(let bytes): "memory grew by \(bytes >> 20) MB, up to"
            }
        let input = FuzzHistory(target, seed: seed).input(number)
        let path = "/tmp/martlet-fuzz-\(target.name)-\(seed)-\(number).input"
        if let file = fopen(path, "w") {
            input.withUnsafeBytes { _ = fwrite($0.baseAddress, 1, $0.count, file) }
            fclose(file)
        }
        print(
            """
            FAIL  \(target.name): \(what) in case \(number) of seed \(seed)
                  input of \(input.count) bytes saved in \(path)
                  again: martlet-tools fuzz \(target.name) --seed \(seed) --case \(number)
            """)
    }

    private func seconds(since nanoseconds: UInt64) -> Double {
        Double(monotonicNanoseconds() &- nanoseconds) / 1e9
    }
}
