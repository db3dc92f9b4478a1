// swift-tools-version: 6.2
import PackageDescription

// Modules are layers: an import may only point downwards, and this manifest is what enforces it.
// See Sources/MartletServer/MartletServer.docc/Architecture.md for the tour.

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

func layer(_ name: String, imports: [Target.Dependency] = [], links: [LinkerSetting] = []) -> Target {
    .target(name: name, dependencies: imports, swiftSettings: settings, linkerSettings: links)
}

func program(_ name: String, imports: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: imports, swiftSettings: settings)
}

func tests(_ name: String, of imports: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: imports, swiftSettings: settings)
}

// `make` names an object file with all of jemalloc in it, so that an installed program needs no libjemalloc. Not the
// archive: a static Swift runtime hides the symbols of archives, glibc would go on using its own malloc, and one of the
// two would free what the other allocated.
let jemalloc: [LinkerSetting] =
    Context.environment["MARTLET_JEMALLOC_OBJECT"].map { [.unsafeFlags([$0])] } ?? [.linkedLibrary("jemalloc")]

let package = Package(
    name: "martlet",
    products: [
        .executable(name: "martlet-server", targets: ["martlet-server"]),
        .executable(name: "martlet", targets: ["martlet"]),
        .executable(name: "martlet-simulator", targets: ["martlet-simulator"]),
        .executable(name: "martlet-tools", targets: ["martlet-tools"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        // Shims over system headers and libraries: no logic in C.
        .target(name: "CMartletSystem"),
        .systemLibrary(name: "CJemalloc", providers: [.apt(["libjemalloc-dev"])]),
        // Debian's Lua 5.1, always its archive: an installed program needs no liblua.
        .target(name: "CLua", linkerSettings: [.linkedLibrary(":liblua5.1.a")]),

        // No I/O below this line except in MartletSystem.
        layer("MartletBase"),
        layer("MartletSystem", imports: ["CMartletSystem"]),
        layer("MartletRESP", imports: ["MartletBase"]),
        layer("MartletKeyspace", imports: ["MartletBase", "CJemalloc"], links: jemalloc),
        layer("MartletPersistence", imports: ["MartletBase", "MartletKeyspace"]),
        layer("MartletReplication", imports: ["MartletBase", "MartletRESP"]),
        layer("MartletCluster", imports: ["MartletBase"]),
        // Clusters in virtual time; only the simulator and tests use it.
        layer("MartletSimulation", imports: ["MartletBase", "MartletCluster"]),
        layer(
            "MartletServer",
            imports: [
                "MartletBase", "MartletRESP", "MartletKeyspace", "MartletPersistence", "MartletReplication",
                "MartletCluster", "CLua",
            ]),
        layer(
            "MartletReactor",
            imports: [
                "MartletServer", "MartletCluster", "MartletKeyspace", "MartletRESP", "MartletSystem", "MartletBase",
            ]),

        program("martlet-server", imports: ["MartletReactor", "MartletServer", "MartletBase", "MartletSystem"]),
        program(
            "martlet",
            imports: [
                "MartletBase", "MartletSystem", "MartletRESP",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ]),
        program(
            "martlet-simulator",
            imports: [
                "MartletSimulation",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        program(
            "martlet-tools",
            imports: [
                "MartletBase", "MartletRESP", "MartletKeyspace", "MartletPersistence", "MartletCluster",
                "MartletServer",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),

        tests("MartletBaseTests", of: ["MartletBase"]),
        tests("MartletSimulationTests", of: ["MartletSimulation"]),
        tests(
            "MartletToolTests",
            of: [
                "martlet", "MartletBase", "MartletRESP", "MartletSystem",
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ]),
        tests("MartletToolsTests", of: ["martlet-tools", "MartletBase"]),
        tests("MartletRESPTests", of: ["MartletRESP", "MartletBase"]),
        tests("MartletKeyspaceTests", of: ["MartletKeyspace", "MartletBase"]),
        tests("MartletPersistenceTests", of: ["MartletPersistence", "MartletKeyspace", "MartletBase"]),
        tests("MartletReplicationTests", of: ["MartletReplication", "MartletRESP", "MartletBase"]),
        tests("MartletSystemTests", of: ["MartletSystem"]),
        tests(
            "MartletServerTests",
            of: [
                "MartletServer", "MartletBase", "MartletRESP", "MartletKeyspace", "MartletCluster",
                "MartletPersistence", "MartletReplication",
            ]),
        tests("MartletReactorTests", of: ["MartletReactor", "MartletSystem", "MartletCluster", "MartletBase"]),
        tests("MartletClusterTests", of: ["MartletCluster", "MartletBase"]),
    ]
)
