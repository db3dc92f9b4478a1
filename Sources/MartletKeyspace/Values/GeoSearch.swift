import MartletBase

// Members of a sorted set of places within a circle or a box.
//
// The cell around the centre and its eight neighbours cover the area: cells are chosen so large that they do. Each cell is
// one range of scores; what is found in it is measured.
//
// Source: geo.c of Redis 7.0.

/// An area around a place.
package struct GeoArea {
    package enum Shape {
        case circle(radius: Double)
        case box(width: Double, height: Double)
    }

    package var centre: GeoPlace
    package var shape: Shape
    /// Meters in the unit of the shape's lengths.
    package var metersPerUnit: Double

    package init(centre: GeoPlace, shape: Shape, metersPerUnit: Double) {
        self.centre = centre
        self.shape = shape
        self.metersPerUnit = metersPerUnit
    }

    /// How far a place is from the centre, in meters; nil if it is outside.
    fileprivate func distance(to place: GeoPlace) -> Double? {
        switch shape {
        case .circle(let radius):
            let distance = centre.meters(to: place)
            return distance > radius * metersPerUnit ? nil : distance
        case .box(let width, let height):
            // The cheaper one first.
            if GeoPlace.meters(fromLatitude: place.latitude, to: centre.latitude) > height * metersPerUnit / 2 {
                return nil
            }
            let beside = GeoPlace(longitude: centre.longitude, latitude: place.latitude)
            if place.meters(to: beside) > width * metersPerUnit / 2 { return nil }
            return centre.meters(to: place)
        }
    }

    // MARK: Cells

    /// The cells that cover the area, the centre's first. (geohashCalculateAreasByShapeWGS84)
    fileprivate func forEachCell(_ visit: (GeoCell) -> Bool) {
        let bounds = bounds
        var step = Self.step(radiusMeters: radius * metersPerUnit, latitude: centre.latitude)
        var cell = GeoCell(centre, step: step)
        let isTooFine =
            cell.neighbour(east: 0, north: 1).area.latitudeMax < bounds.latitudeMax
            || cell.neighbour(east: 0, north: -1).area.latitudeMin > bounds.latitudeMin
            || cell.neighbour(east: 1, north: 0).area.longitudeMax < bounds.longitudeMax
            || cell.neighbour(east: -1, north: 0).area.longitudeMin > bounds.longitudeMin
        if step > 1, isTooFine {
            step -= 1
            cell = GeoCell(centre, step: step)
        }
        // A side that the centre's cell reaches beyond needs no neighbours.
        let area = cell.area
        let canSkip = step >= 2
        let skipsSouth = canSkip && area.latitudeMin < bounds.latitudeMin
        let skipsNorth = canSkip && area.latitudeMax > bounds.latitudeMax
        let skipsWest = canSkip && area.longitudeMin < bounds.longitudeMin
        let skipsEast = canSkip && area.longitudeMax > bounds.longitudeMax
        guard visit(cell) else { return }
        // In large cells some neighbours are the same.
        var last: GeoCell?
        for (east, north) in Self.directions {
            if (north < 0 && skipsSouth) || (north > 0 && skipsNorth) { continue }
            if (east < 0 && skipsWest) || (east > 0 && skipsEast) { continue }
            let neighbour = cell.neighbour(east: east, north: north)
            if neighbour == last { continue }
            guard visit(neighbour) else { return }
            last = neighbour
        }
    }

    private static let directions: [(east: Int, north: Int)] = [
        (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1),
    ]

    /// To the farthest place, in the unit of the lengths.
    private var radius: Double {
        switch shape {
        case .circle(let radius): return radius
        case .box(let width, let height):
            return ((width / 2) * (width / 2) + (height / 2) * (height / 2)).squareRoot()
        }
    }

    /// In degrees; a box is widest at the side away from the equator. (geohashBoundingBox)
    private var bounds: GeoCell.Area {
        let (width, height): (Double, Double)
        switch shape {
        case .circle(let radius): (width, height) = (metersPerUnit * radius, metersPerUnit * radius)
        case .box(let boxWidth, let boxHeight):
            (width, height) = (metersPerUnit * (boxWidth / 2), metersPerUnit * (boxHeight / 2))
        }
        let latitudeDelta = GeoPlace.latitudeDelta(height)
        let widest = centre.latitude < 0 ? centre.latitude - latitudeDelta : centre.latitude + latitudeDelta
        let longitudeDelta = GeoPlace.longitudeDelta(width, at: widest)
        return GeoCell.Area(
            longitudeMin: centre.longitude - longitudeDelta, longitudeMax: centre.longitude + longitudeDelta,
            latitudeMin: centre.latitude - latitudeDelta, latitudeMax: centre.latitude + latitudeDelta)
    }

    /// How fine the grid may be. (geohashEstimateStepsByRadius)
    private static func step(radiusMeters: Double, latitude: Double) -> UInt64 {
        if radiusMeters == 0 { return GeoCell.stepMax }
        var step = 1
        var range = radiusMeters
        // Half of the equator in the Mercator projection. (MERCATOR_MAX)
        while range < 20037726.37 {
            range *= 2
            step += 1
        }
        // So that the range is in most of the base cases.
        step -= 2
        // Cells are narrower towards the poles.
        if latitude.magnitude > 66 { step -= 1 }
        if latitude.magnitude > 80 { step -= 1 }
        return UInt64(min(max(step, 1), Int(GeoCell.stepMax)))
    }
}

/// A member that a search has found. - Precondition: the set has not been changed since.
package struct GeoMatch {
    package let member: StringView
    package let score: Double
    package let place: GeoPlace
    /// In the unit of the search.
    package let distance: Double
    fileprivate let meters: Double
}

package enum GeoOrder: Sendable { case ascending, descending }

extension SortedSetValue {
    /// The members within an area.
    ///
    /// - Parameter limit: where to stop searching; 0 for no limit.
    /// - Complexity: O(members in the cells that cover the area)
    package func search(_ area: GeoArea, limit: Int = 0) -> [GeoMatch] {
        var found: [GeoMatch] = []
        area.forEachCell { cell in
            walk(ranks(in: cell.scores)) { member, score in
                let place = GeoPlace(score: score)
                if let meters = area.distance(to: place) {
                    found.append(
                        GeoMatch(
                            member: member, score: score, place: place, distance: meters / area.metersPerUnit,
                            meters: meters))
                }
                return limit == 0 || found.count < limit
            }
            return limit == 0 || found.count < limit
        }
        return found
    }

    /// A set of matches, by distance or by their own scores. The result belongs to the caller.
    package static func of(
        _ matches: ArraySlice<GeoMatch>, byDistance: Bool, _ store: MemberStorePointer
    ) -> SortedSetValue {
        var result = makeLarge(store)
        for match in matches {
            result.add(match.member, score: byDistance ? match.distance : match.score)
        }
        return result
    }
}

extension [GeoMatch] {
    /// Brings matches in order and drops all but the first `count`.
    ///
    /// - Complexity: O(matches + count × log count) on average
    package mutating func keepFirst(_ count: Int, _ order: GeoOrder) {
        let total = self.count
        if count < total {
            withUnsafeMutableBufferPointer { PartialSort($0, order).sort(from: 0, total, wanted: count) }
            removeLast(total - count)
        } else if order == .ascending {
            sort { $0.meters < $1.meters }
        } else {
            sort { $0.meters > $1.meters }
        }
    }
}

/// A quicksort that leaves those parts alone that are not asked for. Which of equal distances come first is up to how it
/// chooses and moves its elements, and replies show that: so this is Bentley and McIlroy's "Engineering a sort function"
/// in every step, as in Redis. (pqsort.c)
private struct PartialSort {
    private let matches: UnsafeMutableBufferPointer<GeoMatch>
    private let order: GeoOrder

    init(_ matches: UnsafeMutableBufferPointer<GeoMatch>, _ order: GeoOrder) {
        self.matches = matches
        self.order = order
    }

    /// Below, above or equal to 0.
    private func compare(_ first: Int, _ second: Int) -> Int {
        let (first, second) = (matches[first].meters, matches[second].meters)
        if first == second { return 0 }
        return (first < second) == (order == .ascending) ? -1 : 1
    }

    private func median(_ a: Int, _ b: Int, _ c: Int) -> Int {
        if compare(a, b) < 0 { return compare(b, c) < 0 ? b : compare(a, c) < 0 ? c : a }
        return compare(b, c) > 0 ? b : compare(a, c) < 0 ? a : c
    }

    private func pivot(_ start: Int, _ count: Int) -> Int {
        let middle = start + count / 2
        let last = start + count - 1
        if count == 7 { return middle }
        if count <= 40 { return median(start, middle, last) }
        let step = count / 8
        return median(
            median(start, start + step, start + 2 * step), median(middle - step, middle, middle + step),
            median(last - 2 * step, last - step, last))
    }

    private func swap(_ first: Int, _ second: Int, count: Int) {
        for offset in 0..<max(count, 0) { matches.swapAt(first + offset, second + offset) }
    }

    /// - Parameter wanted: index of the first that need not be in order.
    func sort(from begin: Int, _ total: Int, wanted: Int) {
        guard begin < wanted else { return }
        var (start, count) = (begin, total)
        while count >= 7 {
            matches.swapAt(start, pivot(start, count))
            // Equal ones gather at both ends, lesser and greater ones between them.
            var (left, right) = (start + 1, start + count - 1)
            var (leftEqual, rightEqual) = (left, right)
            while true {
                while left <= right, case let order = compare(left, start), order <= 0 {
                    if order == 0 {
                        matches.swapAt(leftEqual, left)
                        leftEqual += 1
                    }
                    left += 1
                }
                while left <= right, case let order = compare(right, start), order >= 0 {
                    if order == 0 {
                        matches.swapAt(right, rightEqual)
                        rightEqual -= 1
                    }
                    right -= 1
                }
                if left > right { break }
                matches.swapAt(left, right)
                left += 1
                right -= 1
            }
            // They move to the middle.
            let end = start + count
            let leftMoved = min(leftEqual - start, left - leftEqual)
            swap(start, left - leftMoved, count: leftMoved)
            let rightMoved = min(rightEqual - right, end - rightEqual - 1)
            swap(left, end - rightMoved, count: rightMoved)
            let (lesser, greater) = (left - leftEqual, rightEqual - right)
            // The smaller part first, for the depth of the stack; the parts have nothing to do with each other.
            if lesser < greater {
                sort(from: start, lesser, wanted: wanted)
                (start, count) = (end - greater, greater)
            } else {
                sort(from: end - greater, greater, wanted: wanted)
                count = lesser
            }
            if start >= wanted { return }
        }
        for index in start..<start + count {
            var place = index
            while place > start, compare(place - 1, place) > 0 {
                matches.swapAt(place, place - 1)
                place -= 1
            }
        }
    }
}
