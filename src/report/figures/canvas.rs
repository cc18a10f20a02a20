//! A sheet to draw on, the same for SVG and PNG: points are in CSS pixels, whatever the resolution.

use crate::{
    error::{Error, Result},
    tensor::Image,
};
use plotters::{
    coord::Shift,
    prelude::*,
    style::{
        FontStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};
use std::sync::Once;

/// A place on the sheet, in CSS pixels from the top left.
pub type At = (f64, f64);

/// Text and axes. The page maps these colours to the reader's light or dark theme, so every drawing uses only them.
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub const MUTED: RGBColor = RGBColor(0x66, 0x66, 0x66);
pub const GRID: RGBColor = RGBColor(0xe3, 0xe3, 0xe3);

/// Okabe & Ito's colours for all kinds of colour vision, those that stand out on white first.
pub const PALETTE: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];

/// Something that can be drawn at a size in CSS pixels.
pub trait Drawing {
    fn size(&self) -> (u32, u32);
    fn draw<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<()>;
}

/// Where a drawing draws.
pub struct Canvas<'a, B: DrawingBackend> {
    area: &'a DrawingArea<B, Shift>,
    /// Device pixels per CSS pixel.
    scale: f64,
    /// Moves text anchored at its middle down, in text sizes.
    nudge: f64,
}

/// Backends take whole pixels: SVG is drawn larger, for smooth curves, and shown at its size.
const SVG_SCALE: u32 = 8;
const PNG_SCALE: u32 = 2;

/// A drawing as a complete SVG document and as a PNG file's bytes.
pub fn render(drawing: &impl Drawing) -> Result<(String, Vec<u8>)> {
    register_font()?;
    Ok((svg(drawing)?, png(drawing)?))
}

fn svg(drawing: &impl Drawing) -> Result<String> {
    let (width, height) = drawing.size();
    let (wide, high) = (width * SVG_SCALE, height * SVG_SCALE);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (wide, high)).into_drawing_area();
        draw_on(drawing, &area, SVG_SCALE, 0.0)?;
    }
    let drawn = format!("<svg width=\"{wide}\" height=\"{high}\" ");
    let shown = format!("<svg width=\"{width}\" height=\"{height}\" ");
    Ok(text.replacen(&drawn, &shown, 1))
}

fn png(drawing: &impl Drawing) -> Result<Vec<u8>> {
    let (width, height) = drawing.size();
    let (wide, high) = (width * PNG_SCALE, height * PNG_SCALE);
    let mut pixels = vec![0; wide as usize * high as usize * 3];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (wide, high)).into_drawing_area();
        // plotters takes the middle of the line for that of its letters.
        draw_on(drawing, &area, PNG_SCALE, 0.14)?;
    }
    Image { width: wide as usize, height: high as usize, pixels }.png()
}

fn draw_on<B: DrawingBackend>(
    drawing: &impl Drawing,
    area: &DrawingArea<B, Shift>,
    scale: u32,
    nudge: f64,
) -> Result<()> {
    area.fill(&WHITE).map_err(failed)?;
    drawing.draw(&Canvas { area, scale: f64::from(scale), nudge })?;
    area.present().map_err(failed)
}

/// The font measures text and draws it in PNG files, so that no font of the system is needed; SVG text is left to the
/// viewer's own sans-serif.
pub fn register_font() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut registered = Ok(());
    ONCE.call_once(|| {
        registered =
            plotters::style::register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
                .map_err(|_| Error::bug("the figures' font cannot be read"));
    });
    registered
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::bug(format!("a figure cannot be drawn: {error}"))
}

impl<B: DrawingBackend> Canvas<'_, B> {
    fn at(&self, (x, y): At) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn all(&self, points: &[At]) -> Vec<(i32, i32)> {
        points.iter().map(|point| self.at(*point)).collect()
    }

    fn stroke(&self, colour: RGBAColor, width: f64) -> ShapeStyle {
        ShapeStyle { color: colour, filled: false, stroke_width: (width * self.scale).round().max(1.0) as u32 }
    }

    /// A line through the points.
    pub fn line(&self, points: &[At], colour: impl Color, width: f64) -> Result<()> {
        let style = self.stroke(colour.to_rgba(), width);
        self.area.draw(&PathElement::new(self.all(points), style)).map_err(failed)
    }

    /// A dashed line through the points; dashes run on around corners.
    pub fn dashed(&self, points: &[At], colour: impl Color, width: f64) -> Result<()> {
        let colour = colour.to_rgba();
        dashes(points, 5.0, 4.0).iter().try_for_each(|dash| self.line(dash, colour, width))
    }

    /// A filled polygon.
    pub fn polygon(&self, points: &[At], colour: impl Color) -> Result<()> {
        self.area.draw(&Polygon::new(self.all(points), colour.to_rgba().filled())).map_err(failed)
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(&self, from: At, to: At, colour: impl Color) -> Result<()> {
        self.area.draw(&Rectangle::new([self.at(from), self.at(to)], colour.to_rgba().filled())).map_err(failed)
    }

    pub fn dot(&self, at: At, radius: f64, colour: impl Color) -> Result<()> {
        let radius = (radius * self.scale).round() as i32;
        self.area.draw(&Circle::new(self.at(at), radius, colour.to_rgba().filled())).map_err(failed)
    }

    /// One line of text of `size` CSS pixels, anchored at `at`.
    pub fn text(&self, text: &str, at: At, size: f64, colour: RGBColor, anchor: (HPos, VPos)) -> Result<()> {
        let font = ("sans-serif", size * self.scale).into_font();
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(anchor.0, anchor.1));
        let down = if matches!(anchor.1, VPos::Center) { self.nudge * size } else { 0.0 };
        self.area.draw_text(text, &style, self.at((at.0, at.1 + down))).map_err(failed)
    }
}

/// The pieces of a dashed line: `on` drawn, `off` left out.
fn dashes(points: &[At], on: f64, off: f64) -> Vec<Vec<At>> {
    let (mut pieces, mut piece, mut drawing, mut left) = (Vec::new(), Vec::new(), true, on);
    piece.extend(points.first());
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        let mut length = (to.0 - from.0).hypot(to.1 - from.1);
        while length > left {
            let share = left / length;
            from = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            length -= left;
            if drawing {
                piece.push(from);
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![from];
            }
            drawing = !drawing;
            left = if drawing { on } else { off };
        }
        left -= length;
        if drawing {
            piece.push(to);
        }
    }
    pieces.extend((piece.len() > 1).then_some(piece));
    pieces
}
