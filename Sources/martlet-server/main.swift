import MartletBase
import MartletReactor
import MartletServer
import MartletSystem

ServerProcess.main(Array(CommandLine.arguments.dropFirst()))
