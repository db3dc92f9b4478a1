"""Bar charts as SVG files, without a library."""

from xml.sax.saxutils import escape

COLORS = ["#d6336c", "#4263eb", "#2b8a3e", "#e8590c", "#7048e8", "#868e96"]
WIDTH, LEFT, ROW, GAP = 860, 150, 17, 12


def bars(path, title, unit, groups, names, digits=0):
    """Writes horizontal bars. `groups`: [(label, {name: number, or (part, part) to stack})]; `names` gives the order.

    Each group has a scale of its own: its longest bar fills the width."""
    shapes, top = [], 58
    for label, values in groups:
        scale = (WIDTH - LEFT - 110) / (max(sum(parts(value)) for value in values.values()) or 1)
        shown = [name for name in names if name in values]
        shapes.append(text(LEFT - 8, top + ROW * len(shown) / 2 + 4, label, "end"))
        for name in shown:
            left, color = LEFT, COLORS[names.index(name) % len(COLORS)]
            for index, part in enumerate(parts(values[name])):
                # The second part of a stack is paler.
                shapes.append(f'<rect x="{left:.1f}" y="{top}" width="{part * scale:.1f}" height="{ROW - 3}" '
                              f'fill="{color}" fill-opacity="{1 if index == 0 else 0.45}"/>')
                left += part * scale
            shapes.append(text(left + 5, top + 11, f"{sum(parts(values[name])):,.{digits}f}"))
            top += ROW
        top += GAP
    legend = LEFT
    for index, name in enumerate(names):
        shapes.append(f'<rect x="{legend}" y="34" width="11" height="11" fill="{COLORS[index % len(COLORS)]}"/>')
        shapes.append(text(legend + 16, 44, name))
        legend += 40 + 7 * len(name)
    with open(path, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
                   f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
                   f'<text x="{LEFT}" y="20" font-size="15">{escape(f"{title}, {unit}; each group to its own scale")}</text>\n')
        file.write("\n".join(shapes) + "\n</svg>\n")


def parts(value):
    return value if isinstance(value, tuple) else (value,)


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
