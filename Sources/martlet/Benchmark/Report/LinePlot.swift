import Glibc

/// Lines over a common pair of axes, drawn as an SVG element that needs nothing from outside.
package struct LinePlot {
    package enum Axis {
        /// From 0.
        case linear
        case logarithmic
        /// Percent, by distance from 100: 90, 99 and 99.9 are equally far apart.
        case nines
    }

    package struct Line {
        let name: String
        let points: [(x: Double, y: Double)]

        package init(name: String, points: [(x: Double, y: Double)]) {
            self.name = name
            self.points = points
        }
    }

    package let title: String
    package let xAxis: (label: String, kind: Axis)
    package let yAxis: (label: String, kind: Axis)
    package let lines: [Line]

    private static let width = 760.0, height = 280.0
    private static let left = 70.0, right = 32.0, top = 34.0, bottom = 42.0
    private static let colours = ["#2b6cb0", "#c05621", "#2f855a", "#b83280", "#6b46c1"]
    /// More points than this are drawn as a line alone.
    private static let markedPointsMax = 300

    package init(title: String, xAxis: (label: String, kind: Axis), yAxis: (label: String, kind: Axis), lines: [Line]) {
        self.title = title
        self.xAxis = xAxis
        self.yAxis = yAxis
        self.lines = lines
    }

    package func svg() -> String {
        let xs = Scale(xAxis.kind, lines.flatMap { $0.points.map(\.x) }, from: Self.left, to: Self.width - Self.right)
        let ys = Scale(yAxis.kind, lines.flatMap { $0.points.map(\.y) }, from: Self.height - Self.bottom, to: Self.top)
        var parts = [
            "<svg viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\" role=\"img\" aria-label=\"\(escaped(title))\">",
            text(Self.left, 16, title, "class=\"title\""),
        ]
        for tick in ys.ticks {
            let y = ys.place(tick.value)
            parts.append(
                "<line class=\"grid\" x1=\"\(Self.left)\" x2=\"\(Self.width - Self.right)\" y1=\"\(at(y))\" y2=\"\(at(y))\"/>"
            )
            parts.append(text(Self.left - 6, y + 4, tick.label, "text-anchor=\"end\""))
        }
        for tick in xs.ticks {
            let x = xs.place(tick.value)
            parts.append(
                "<line class=\"grid\" x1=\"\(at(x))\" x2=\"\(at(x))\" y1=\"\(Self.top)\" y2=\"\(Self.height - Self.bottom)\"/>"
            )
            parts.append(text(x, Self.height - Self.bottom + 15, tick.label, "text-anchor=\"middle\""))
        }
        parts.append(text((Self.left + Self.width) / 2, Self.height - 8, xAxis.label, "text-anchor=\"middle\""))
        parts.append(
            "<text transform=\"translate(14 \(Self.height / 2)) rotate(-90)\" text-anchor=\"middle\">\(escaped(yAxis.label))</text>"
        )
        for (index, line) in lines.enumerated() {
            parts.append(draw(line, Self.colours[index % Self.colours.count], xs, ys))
            let x = Self.width - Self.right - Double(lines.count - index) * 90 + 20
            parts.append(
                "<rect x=\"\(x)\" y=\"8\" width=\"10\" height=\"10\" fill=\"\(Self.colours[index % Self.colours.count])\"/>"
            )
            parts.append(text(x + 14, 17, line.name, ""))
        }
        return (parts + ["</svg>"]).joined(separator: "\n")
    }

    private func draw(_ line: Line, _ colour: String, _ xs: Scale, _ ys: Scale) -> String {
        let places = line.points.map { (x: at(xs.place($0.x)), y: at(ys.place($0.y))) }
        var result =
            "<polyline fill=\"none\" stroke=\"\(colour)\" stroke-width=\"1.8\" points=\""
            + places.map { "\($0.x),\($0.y)" }.joined(separator: " ") + "\"/>"
        guard line.points.count <= Self.markedPointsMax else { return result }
        for (point, place) in zip(line.points, places) {
            result +=
                "<circle cx=\"\(place.x)\" cy=\"\(place.y)\" r=\"2.2\" fill=\"\(colour)\"><title>"
                + "\(escaped(line.name)): \(Scale.label(point.y)) at \(Scale.label(point.x))</title></circle>"
        }
        return result
    }

    private func text(_ x: Double, _ y: Double, _ text: String, _ attributes: String) -> String {
        "<text x=\"\(at(x))\" y=\"\(at(y))\" \(attributes)>\(escaped(text))</text>"
    }

    private func at(_ number: Double) -> String { fixed(number, 1) }
}

/// Values to places on an axis, and where its ticks are.
private struct Scale {
    private let kind: LinePlot.Axis
    private let low: Double, high: Double
    private let from: Double, to: Double
    private(set) var ticks: [(value: Double, label: String)] = []

    init(_ kind: LinePlot.Axis, _ values: [Double], from: Double, to: Double) {
        self.kind = kind
        self.from = from
        self.to = to
        let largest = values.max() ?? 1
        switch kind {
        case .linear:
            low = 0
            let step = Self.step(max(largest, 1e-9) / 5)
            high = max((largest / step).rounded(.up), 1) * step
            for count in 0...Int((high / step).rounded()) {
                ticks.append((Double(count) * step, Self.label(Double(count) * step)))
            }
        case .logarithmic:
            let positive = values.filter { $0 > 0 }
            let first = (log10(positive.min() ?? 1)).rounded(.down)
            let last = max((log10(positive.max() ?? 10)).rounded(.up), first + 1)
            (low, high) = (first, last)
            for exponent in Int(first)...Int(last) {
                let value = pow(10, Double(exponent))
                ticks.append((value, Self.label(value)))
            }
        case .nines:
            // 100 % itself is infinitely far away: it stands where the largest other value leaves room.
            let nines = values.filter { $0 < 100 }.map(Self.nines).max() ?? 1
            (low, high) = (0, max(nines.rounded(.up), 1))
            for count in 0...Int(high) {
                let percent = 100 - 100 * pow(10, -Double(count))
                ticks.append((percent, fixed(percent, max(0, count - 2)) + "%"))
            }
        }
    }

    func place(_ value: Double) -> Double {
        let position =
            switch kind {
            case .linear: value
            case .logarithmic: value > 0 ? log10(value) : low
            case .nines: value < 100 ? Self.nines(value) : high
            }
        return from + (min(max(position, low), high) - low) / (high - low) * (to - from)
    }

    private static func nines(_ percent: Double) -> Double { -log10(1 - percent / 100) }

    /// 1, 2 or 5 times a power of ten, at least `rough`.
    private static func step(_ rough: Double) -> Double {
        let power = pow(10, log10(rough).rounded(.down))
        return ([1, 2, 5, 10].first { $0 * power >= rough * 0.999 } ?? 10) * power
    }

    /// Three digits or so, without zeros at the end.
    static func label(_ value: Double) -> String {
        let (number, unit) =
            value >= 1_000_000 ? (value / 1_000_000, "M") : value >= 10_000 ? (value / 1000, "k") : (value, "")
        var text = fixed(number, number >= 100 ? 1 : number >= 1 ? 2 : 3)
        while text.last == "0" { text.removeLast() }
        if text.last == "." { text.removeLast() }
        return (text.isEmpty ? "0" : text) + unit
    }
}

/// For HTML and SVG, in text and in attributes.
package func escaped(_ text: String) -> String {
    var result = ""
    for character in text.unicodeScalars {
        switch character {
        case "&": result += "&amp;"
        case "<": result += "&lt;"
        case ">": result += "&gt;"
        case "\"": result += "&quot;"
        default: result.unicodeScalars.append(character)
        }
    }
    return result
}
