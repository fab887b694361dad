//! The headers of pictures, read before anything is decoded: what would take too much memory,
//! and what no decoder is built in for, is refused by its first bytes.

use super::{Failure, FailureKind};

/// The most pixels of a picture.
pub const PIXELS_MAX: u64 = 16_000_000;
/// The longest side of a picture.
const SIDE_MAX: u32 = 16_384;
/// The most bytes of a picture's pixels as its file stores them: one of 16 megapixels with
/// four channels of eight bits.
const RAW_MAX: u64 = 64 << 20;
/// The most sections of a JPEG before its size.
const SECTIONS_MAX: usize = 10_000;

/// A format of pictures that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// GIF; its first frame is used.
    Gif,
    /// Windows bitmap.
    Bmp,
}

/// What a picture's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its format.
    pub format: PictureFormat,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Reads a picture's header.
///
/// # Errors
/// `InvalidArgs` for what is no picture, is cut off in its header, or is empty or too large;
/// `NotSupported` for other formats. The message is for the name of a field before it.
pub fn read(bytes: &[u8]) -> Result<Picture, Failure> {
    let (format, size, bits) = header(bytes)?;
    let Some((width, height)) = size else {
        return Err(Failure::invalid(
            "is cut off in its header: send the whole file",
        ));
    };
    if width == 0 || height == 0 {
        return Err(Failure::invalid(format!(
            "has {width} x {height} pixels: send a picture that has some"
        )));
    }
    let pixels = u64::from(width) * u64::from(height);
    let raw = pixels * u64::from(bits).div_ceil(8);
    if pixels > PIXELS_MAX || width.max(height) > SIDE_MAX || raw > RAW_MAX {
        return Err(Failure::invalid(format!(
            "has {width} x {height} pixels of {bits} bits: at most {} megapixels, {SIDE_MAX} on a \
             side and {} MiB uncompressed are decoded, send a smaller one",
            PIXELS_MAX / 1_000_000,
            RAW_MAX >> 20
        )));
    }
    Ok(Picture {
        format,
        width,
        height,
    })
}

type Size = Option<(u32, u32)>;

/// Format, size and bits of a pixel.
fn header(bytes: &[u8]) -> Result<(PictureFormat, Size, u32), Failure> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => {
            let (size, bits) = png(bytes);
            Ok((PictureFormat::Png, size, bits))
        }
        [0xff, 0xd8, ..] => Ok((PictureFormat::Jpeg, jpeg(bytes), 24)),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok((PictureFormat::Gif, gif(bytes), 32)),
        [b'B', b'M', ..] => Ok((PictureFormat::Bmp, bmp(bytes), 32)),
        [] => Err(Failure::invalid("is empty")),
        _ => Err(unknown(bytes)),
    }
}

fn unknown(bytes: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(bytes.get(..256).unwrap_or(bytes));
    let named = match bytes {
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("WebP"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some("AVIF, HEIC or a video"),
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => Some("TIFF"),
        _ if text.contains("<svg") || text.trim_start().starts_with("<?xml") => Some("SVG"),
        _ => None,
    };
    match named {
        Some(name) => Failure::new(
            FailureKind::NotSupported,
            format!("is {name}, which is not decoded: send a PNG or JPEG"),
        ),
        None => Failure::invalid("is no picture: send a PNG, JPEG, GIF or BMP"),
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    let found: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(found).into())
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u32> {
    let found: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_le_bytes(found).into())
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// PNG specification, 11.2.1.
fn png(bytes: &[u8]) -> (Size, u32) {
    let size = be32(bytes, 16).zip(be32(bytes, 20));
    let is_header = bytes.get(12..16) == Some(b"IHDR");
    let depth = bytes.get(24).copied().map_or(8, u32::from);
    let channels = match bytes.get(25) {
        Some(0) => 1,
        Some(2) => 3,
        Some(4) => 2,
        // A palette is expanded to colors.
        _ => 4,
    };
    (size.filter(|_| is_header), depth.max(8) * channels)
}

/// ITU T.81, annex B: sections with their length, up to the frame header.
fn jpeg(bytes: &[u8]) -> Size {
    let mut at = 2;
    for _ in 0..SECTIONS_MAX {
        if *bytes.get(at)? != 0xff {
            return None;
        }
        match *bytes.get(at + 1)? {
            // A fill byte.
            0xff => at += 1,
            // Without a length.
            0x01 | 0xd0..=0xd8 => at += 2,
            0xd9 | 0xda => return None,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return be16(bytes, at + 7).zip(be16(bytes, at + 5));
            }
            _ => at += 2 + be16(bytes, at + 2)? as usize,
        }
    }
    None
}

/// The specification of GIF (89a), 18.
fn gif(bytes: &[u8]) -> Size {
    le16(bytes, 6).zip(le16(bytes, 8))
}

/// The two headers of a Windows bitmap; a negative height means that its first row is at the
/// top.
fn bmp(bytes: &[u8]) -> Size {
    if le32(bytes, 14)? == 12 {
        return le16(bytes, 18).zip(le16(bytes, 20));
    }
    let side = |at| Some(le32(bytes, at)?.cast_signed().unsigned_abs());
    side(18).zip(side(22))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn png_of(width: u32, height: u32, depth: u8, color: u8) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        file.extend(width.to_be_bytes());
        file.extend(height.to_be_bytes());
        file.extend([depth, color, 0, 0, 0]);
        file
    }

    fn size(bytes: &[u8]) -> (PictureFormat, u32, u32) {
        let picture = read(bytes).unwrap();
        (picture.format, picture.width, picture.height)
    }

    #[test]
    fn sizes_are_in_the_headers() {
        assert_eq!(size(&png_of(3, 2, 8, 2)), (PictureFormat::Png, 3, 2));
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc2\0\x11\x08\x01\x00\x02\x03";
        assert_eq!(size(jpeg), (PictureFormat::Jpeg, 0x203, 0x100));
        assert_eq!(size(b"GIF87a\x05\0\x06\0"), (PictureFormat::Gif, 5, 6));
        let mut bmp = b"BM".to_vec();
        bmp.resize(14, 0);
        for number in [40, 7_u32, (-9_i32).cast_unsigned()] {
            bmp.extend(number.to_le_bytes());
        }
        assert_eq!(size(&bmp), (PictureFormat::Bmp, 7, 9));
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_by_its_header() {
        let svg = br#"<svg xmlns="http://www.w3.org/2000/svg"/>"#;
        for (bytes, part) in [
            (png_of(0, 0, 8, 2), "0 x 0 pixels"),
            (png_of(10_000, 10_000, 8, 2), "10000 x 10000"),
            (png_of(4000, 4000, 16, 6), "64 MiB uncompressed"),
            (png_of(20_000, 1, 8, 2), "16384 on a side"),
            (png_of(3, 2, 8, 2)[..20].to_vec(), "cut off"),
            (b"\xff\xd8\xff\xe0".to_vec(), "cut off"),
            (svg.to_vec(), "SVG"),
            (b"RIFF\0\0\0\0WEBPVP8 ".to_vec(), "WebP"),
            (b"\0\0\0\x20ftypavif".to_vec(), "AVIF"),
            (b"hello".to_vec(), "no picture"),
            (Vec::new(), "empty"),
        ] {
            let failure = read(&bytes).unwrap_err();
            assert!(failure.message.contains(part), "{failure}");
        }
        assert!(read(&png_of(4000, 4000, 8, 6)).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(head in 0usize..5, rest in prop::collection::vec(any::<u8>(), 0..80)) {
            let heads: [&[u8]; 5] = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF89a", b"BM", b""];
            _ = read(&[heads[head], &rest].concat());
        }
    }
}
