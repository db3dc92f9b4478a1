/// Versions that a node reports.
package enum Version {
    package static let martlet = "0.1.0"
    /// What clients test features by; the highest version whose commands and formats are meant.
    package static let redis = "7.2.4"
}
