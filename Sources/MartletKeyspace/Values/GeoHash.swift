import Glibc
import MartletBase

// Places on the earth as scores of a sorted set: longitude and latitude, 26 bits each, bit by bit in turns. Places that are
// near each other mostly have long common beginnings, so a search reads a few ranges of scores.
//
// Replies show these numbers to the last digit, so every operation stands in the order in which Redis does it.
//
// Source: geohash.c and geohash_helper.c of Redis 7.0.

/// A place on the earth, in degrees.
package struct GeoPlace: Equatable, Sendable {
    package var longitude: Double
    package var latitude: Double

    package init(longitude: Double, latitude: Double) {
        self.longitude = longitude
        self.latitude = latitude
    }

    /// The poles are out of reach of the Mercator projection. (EPSG:3857)
    static let latitudeMax = 85.05112878
    static let longitudeMax = 180.0
    /// Mean radius of the earth. (EARTH_RADIUS_IN_METERS)
    private static let earthRadiusMeters = 6372797.560856

    package var isValid: Bool {
        longitude >= -Self.longitudeMax && longitude <= Self.longitudeMax && latitude >= -Self.latitudeMax
            && latitude <= Self.latitudeMax
    }

    /// The middle of the cell that a score stands for. Any score is taken, as C would take it. (decodeGeohash)
    package init(score: Double) {
        let area = GeoCell(bits: Self.unsigned(score), step: GeoCell.stepMax).area
        longitude = (area.longitudeMin + area.longitudeMax) / 2
        longitude = max(min(longitude, Self.longitudeMax), -Self.longitudeMax)
        latitude = (area.latitudeMin + area.latitudeMax) / 2
        latitude = max(min(latitude, Self.latitudeMax), -Self.latitudeMax)
    }

    /// What a cast to `uint64_t` makes of a number on x86-64, in or out of range.
    private static func unsigned(_ score: Double) -> UInt64 {
        if score < 0x1p63 { return score >= -0x1p63 ? UInt64(bitPattern: Int64(score)) : 1 << 63 }
        return score < 0x1p64 ? UInt64(score) : 0
    }

    /// The score of the place. - Precondition: ``isValid``.
    package var score: Double { Double(GeoCell(self, step: GeoCell.stepMax).bits) }

    /// The eleven characters that others call a geohash; the last one is always 0.
    package func writeGeohash(to target: UnsafeMutablePointer<UInt8>) {
        // With the latitudes from pole to pole.
        let bits = GeoCell(self, step: GeoCell.stepMax, latitudeMax: 90).bits
        let alphabet: StaticString = "0123456789bcdefghjkmnpqrstuvwxyz"
        for index in 0..<10 { target[index] = alphabet.utf8Start[Int(bits >> UInt64(47 - index * 5)) & 31] }
        target[10] = UInt8(ascii: "0")
    }

    package static let geohashBytes = 11

    static func radians(_ degrees: Double) -> Double { degrees * (Double.pi / 180.0) }
    static func degrees(_ radians: Double) -> Double { radians / (Double.pi / 180.0) }

    /// In degrees. - Parameter meters: along a meridian.
    static func latitudeDelta(_ meters: Double) -> Double { degrees(meters / earthRadiusMeters) }

    /// In degrees. - Parameter meters: along a parallel at `latitude`.
    static func longitudeDelta(_ meters: Double, at latitude: Double) -> Double {
        degrees(meters / earthRadiusMeters / cos(radians(latitude)))
    }

    static func meters(fromLatitude first: Double, to second: Double) -> Double {
        earthRadiusMeters * (radians(second) - radians(first)).magnitude
    }

    /// Along a great circle, by the haversine formula.
    package func meters(to other: GeoPlace) -> Double {
        let v = sin((Self.radians(other.longitude) - Self.radians(longitude)) / 2)
        if v == 0 { return Self.meters(fromLatitude: latitude, to: other.latitude) }
        let (first, second) = (Self.radians(latitude), Self.radians(other.latitude))
        let u = sin((second - first) / 2)
        let a = u * u + cos(first) * cos(second) * v * v
        return 2.0 * Self.earthRadiusMeters * asin(a.squareRoot())
    }
}

/// A cell of the grid that is the finer the greater its step: 2^step by 2^step cells.
struct GeoCell: Equatable {
    var bits: UInt64
    let step: UInt64

    static let stepMax: UInt64 = 26

    init(bits: UInt64, step: UInt64) {
        self.bits = bits
        self.step = step
    }

    /// The cell that a place lies in. - Precondition: the place is valid.
    init(_ place: GeoPlace, step: UInt64, latitudeMax: Double = GeoPlace.latitudeMax) {
        self.step = step
        let cells = Double(UInt64(1) << step)
        let latitude = (place.latitude - -latitudeMax) / (latitudeMax - -latitudeMax) * cells
        let longitude =
            (place.longitude - -GeoPlace.longitudeMax) / (GeoPlace.longitudeMax - -GeoPlace.longitudeMax) * cells
        bits = Self.spread(UInt64(latitude)) | Self.spread(UInt64(longitude)) << 1
    }

    struct Area {
        var longitudeMin: Double
        var longitudeMax: Double
        var latitudeMin: Double
        var latitudeMax: Double
    }

    var area: Area {
        let cells = Double(UInt64(1) << step)
        let latitude = UInt32(truncatingIfNeeded: Self.gather(bits))
        let longitude = UInt32(truncatingIfNeeded: Self.gather(bits >> 1))
        let latitudeScale = GeoPlace.latitudeMax - -GeoPlace.latitudeMax
        let longitudeScale = GeoPlace.longitudeMax - -GeoPlace.longitudeMax
        return Area(
            longitudeMin: -GeoPlace.longitudeMax + (Double(longitude) / cells) * longitudeScale,
            longitudeMax: -GeoPlace.longitudeMax + (Double(longitude &+ 1) / cells) * longitudeScale,
            latitudeMin: -GeoPlace.latitudeMax + (Double(latitude) / cells) * latitudeScale,
            latitudeMax: -GeoPlace.latitudeMax + (Double(latitude &+ 1) / cells) * latitudeScale)
    }

    /// The scores of the places in the cell: from the first to before the second.
    var scores: ScoreRange {
        let shift = 52 - step * 2
        return ScoreRange(min: Double(bits << shift), max: Double((bits + 1) << shift), excludesMax: true)
    }

    /// A neighbour, across the date line and the poles too. - Parameters: -1, 0 or 1.
    func neighbour(east: Int, north: Int) -> GeoCell {
        let longitudes: UInt64 = 0xAAAA_AAAA_AAAA_AAAA >> (64 - step * 2)
        let latitudes: UInt64 = 0x5555_5555_5555_5555 >> (64 - step * 2)
        let x = Self.move(bits & 0xAAAA_AAAA_AAAA_AAAA, by: east, in: longitudes, over: latitudes)
        let y = Self.move(bits & 0x5555_5555_5555_5555, by: north, in: latitudes, over: longitudes)
        return GeoCell(bits: x | y, step: step)
    }

    /// Adds to a number that has only every second bit. - Parameter gaps: the bits between, which pass a carry on.
    private static func move(_ number: UInt64, by direction: Int, in mask: UInt64, over gaps: UInt64) -> UInt64 {
        if direction == 0 { return number }
        return (direction > 0 ? number &+ (gaps &+ 1) : (number | gaps) &- (gaps &+ 1)) & mask
    }

    /// Moves the lower 32 bits to the even places.
    private static func spread(_ number: UInt64) -> UInt64 {
        var x = number & 0xFFFF_FFFF
        x = (x | x << 16) & 0x0000_FFFF_0000_FFFF
        x = (x | x << 8) & 0x00FF_00FF_00FF_00FF
        x = (x | x << 4) & 0x0F0F_0F0F_0F0F_0F0F
        x = (x | x << 2) & 0x3333_3333_3333_3333
        return (x | x << 1) & 0x5555_5555_5555_5555
    }

    /// Moves the even places to the lower 32 bits.
    private static func gather(_ number: UInt64) -> UInt64 {
        var x = number & 0x5555_5555_5555_5555
        x = (x | x >> 1) & 0x3333_3333_3333_3333
        x = (x | x >> 2) & 0x0F0F_0F0F_0F0F_0F0F
        x = (x | x >> 4) & 0x00FF_00FF_00FF_00FF
        x = (x | x >> 8) & 0x0000_FFFF_0000_FFFF
        return (x | x >> 16) & 0x0000_0000_FFFF_FFFF
    }
}

/// A number as C's "%f" prints it. For messages.
package func formatFixed(_ value: Double) -> String {
    // 309 digits, a sign, a point and six decimals at most.
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 330) { text in
        let count = withVaList([value]) { vsnprintf(text.baseAddress, text.count, "%f", $0) }
        return String(decoding: UnsafeRawBufferPointer(text)[..<Int(count)], as: UTF8.self)
    }
}

/// Room for ``formatDistance(_:to:)``.
package let distanceBytesMax = 24

/// Writes a distance with four decimals, rounded to even. Returns the count of bytes. (fixedpoint_d2string)
package func formatDistance(_ value: Double, to target: UnsafeMutableRawPointer) -> Int {
    let scaled = (value * 10000.0).rounded(.toNearestOrEven)
    let number = Int64(exactly: scaled) ?? .min
    var count = 0
    if number < 0 {
        target.storeBytes(of: UInt8(ascii: "-"), as: UInt8.self)
        count = 1
    }
    count += writeDecimal(number.magnitude / 10000, to: target + count)
    target.storeBytes(of: UInt8(ascii: "."), toByteOffset: count, as: UInt8.self)
    var rest = number.magnitude % 10000
    for index in stride(from: 4, to: 0, by: -1) {
        target.storeBytes(of: UInt8(ascii: "0") + UInt8(rest % 10), toByteOffset: count + index, as: UInt8.self)
        rest /= 10
    }
    return count + 5
}
