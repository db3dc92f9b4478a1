import MartletBase
import Testing

@testable import martlet_tools

@Suite struct FuzzTests {
    /// The first cases of a fixed seed, in this process: a failure here fails the same way everywhere.
    @Test("The first cases of every fuzz target pass", arguments: FuzzTarget.registry.map(\.name))
    func firstCases(name: String) throws {
        let history = FuzzHistory(try #require(FuzzTarget.named(name)), seed: 20_260_101)
        for number in 0..<UInt64(500) { history.run(number) }
    }

    @Test("A case is the same input each time, and cases differ", arguments: FuzzTarget.registry.map(\.name))
    func casesAreReproducible(name: String) throws {
        let target = try #require(FuzzTarget.named(name))
        let one = FuzzHistory(target, seed: 5)
        let two = FuzzHistory(target, seed: 5)
        let inputs = (0..<UInt64(50)).map(one.input)
        #expect(inputs == (0..<UInt64(50)).map(two.input))
        #expect(Set(inputs).count > 20)
    }

    @Test("Mutants stay within the size limit")
    func mutantsAreBounded() {
        let mutator = Mutator(corpus: [[UInt8](repeating: 1, count: 60_000), [2], []], tokens: [[1, 2, 3]])
        var random = PRNG(seed: 3)
        for _ in 0..<2000 { #expect(mutator.mutant(&random).count <= Mutator.inputBytesMax) }
    }
}
