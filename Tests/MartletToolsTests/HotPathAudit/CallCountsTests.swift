import Testing

@testable import martlet_tools

@Suite struct CallCountsTests {
    @Test(
        "The callee of a call, and of a jump to another function, is found",
        arguments: [
            ("  24f630:\tcall   6009c0 <swift_retain>", "swift_retain"),
            ("  24f630:\tcall   eec30 <memcpy@plt>", "memcpy"),
            ("  24f630:\tcall   eec30 <memcpy@GLIBC_2.14>", "memcpy"),
            ("   18c28c:\tjmp    18fd70 <swift_release>", "swift_release"),
            ("   18c28c:\te8 5f 01 00 00 \tcallq  18fd70 <swift_beginAccess>", "swift_beginAccess"),
            ("  24f630:\tcall   *0x18(%rax)", nil),
            ("  24f630:\tjne    24f7d1 <$s13MartletServer4NodeV+0x1a1>", nil),
            ("  24f630:\tmov    %rax,%rbx", nil),
            ("  24f630:\tlea    0x10(%rip),%rax        # 600 <swift_retain>", nil),
            ("000000000024f630 <swift_retain>:", nil),
            ("", nil),
        ])
    func callee(line: String, symbol: String?) {
        #expect(CallCounts.callee(Substring(line)).map(String.init) == symbol)
    }

    @Test(
        "Every name of the runtime that costs something has its kind",
        arguments: [
            ("swift_retain", CallCounts.Kind.retain), ("swift_retain_n", .retain),
            ("swift_bridgeObjectRetain", .retain), ("swift_bridgeObjectRelease_n", .release),
            ("swift_nonatomic_release", .release), ("swift_unknownObjectRetain", .retain),
            ("swift_errorRelease", .release), ("swift_beginAccess", .access), ("swift_allocObject", .allocation),
            ("swift_slowAlloc", .allocation), ("malloc", .allocation), ("mallocx", .allocation),
            ("memcpy", .copy), ("memmove", .copy),
            ("$s13MartletServer11TransactionVSgWOe", .release), ("$s13MartletServer4NodeVWOc", .retain),
        ])
    func kinds(symbol: String, kind: CallCounts.Kind) {
        #expect(CallCounts.kind(of: Substring(symbol)) == kind)
    }

    @Test(
        "Other functions are not counted",
        arguments: [
            "swift_endAccess", "swift_isUniquelyReferenced_nonNull_native", "free", "memcmp", "etain", "release",
            "$s13MartletServer4NodeV7releaseyyF",
        ])
    func others(symbol: String) {
        #expect(CallCounts.kind(of: Substring(symbol)) == nil)
    }

    @Test("A disassembly is counted by kind, and counts of several add up")
    func counts() {
        let disassembly = """
            martlet-server:     file format elf64-x86-64

            0000000000001000 <$s4test>:
                1000:\tpush   %rbp
                1001:\tcall   2000 <swift_retain>
                1006:\tcall   2000 <swift_retain>
                100b:\tcall   3000 <memcpy@plt>
                1010:\tjmp    4000 <swift_release>
            """
        var counts = CallCounts()
        counts.add(disassembly: disassembly)
        #expect(CallCounts.Kind.allCases.map { counts[$0] } == [2, 1, 0, 0, 1])
        counts.add(disassembly: disassembly)
        #expect(CallCounts.Kind.allCases.map { counts[$0] } == [4, 2, 0, 0, 2])
    }

    @Test("Only what is above its limit is an excess")
    func excess() {
        var counts = CallCounts()
        counts[.retain] = 2
        counts[.copy] = 1
        var limits = CallCounts()
        limits[.retain] = 1
        limits[.copy] = 1
        limits[.access] = 1
        #expect(counts.excess(over: limits) == ["retain in 2 places, 1 allowed"])
        #expect(counts.excess(over: counts).isEmpty)
    }
}
