//! Pictures and sounds in the messages of a chat.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Failure, picture, sound};

/// The most bytes of one picture or sound.
pub const MEDIUM_BYTES_MAX: usize = 12 << 20;
/// The most pictures and sounds of one request.
pub const MEDIA_MAX: usize = 16;
/// The most bytes of all pictures and sounds of one request; in base64 they fit into a frame.
pub const MEDIA_BYTES_MAX: usize = 32 << 20;

/// What a medium is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// A picture.
    #[default]
    Picture,
    /// A sound.
    Sound,
}

/// Bytes that are shared when they are cloned; base64 in JSON.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(Arc<[u8]>);

/// A picture or sound in a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// What it is.
    #[serde(default)]
    pub kind: MediaKind,
    /// Where in the message's text it is, in bytes from the beginning; where several have the
    /// same place, their order counts.
    #[serde(default)]
    pub at: usize,
    /// The file.
    pub bytes: Blob,
}

impl Media {
    /// A medium at this place, after its header was checked.
    ///
    /// # Errors
    /// `InvalidArgs` where the bytes are too many, or no picture or sound that can be used;
    /// the message begins with what is wrong, for the name of a field before it.
    pub fn new(kind: MediaKind, at: usize, bytes: Vec<u8>) -> Result<Self, Failure> {
        if bytes.len() > MEDIUM_BYTES_MAX {
            return Err(Failure::invalid(format!(
                "has {} bytes, at most {} MiB are read: send a smaller file",
                bytes.len(),
                MEDIUM_BYTES_MAX >> 20
            )));
        }
        match kind {
            MediaKind::Picture => drop(picture::read(&bytes)?),
            MediaKind::Sound => drop(sound::read(&bytes)?),
        }
        Ok(Self {
            kind,
            at,
            bytes: Blob::from(bytes),
        })
    }
}

/// Refuses a request with more pictures and sounds than are processed.
///
/// # Errors
/// `InvalidArgs`.
pub fn check_media<'a>(media: impl Iterator<Item = &'a Media>) -> Result<(), Failure> {
    let (mut count, mut bytes) = (0, 0_usize);
    for medium in media {
        count += 1;
        bytes = bytes.saturating_add(medium.bytes.len());
    }
    if count > MEDIA_MAX || bytes > MEDIA_BYTES_MAX {
        return Err(Failure::invalid(format!(
            "the request has {count} pictures and sounds of {} MiB together, at most {MEDIA_MAX} \
             of {} MiB are processed: leave some out",
            bytes >> 20,
            MEDIA_BYTES_MAX >> 20
        )));
    }
    Ok(())
}

/// Decodes base64 as clients send it, with or without padding.
///
/// # Errors
/// What is wrong with it, for the name of a field before it.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    // Clients also break lines.
    let joined: String;
    let text = if text.contains(['\n', '\r']) {
        joined = text.replace(['\n', '\r'], "");
        &joined
    } else {
        text
    };
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&base64::alphabet::STANDARD, config)
        .decode(text.trim())
        .map_err(|error| format!("is not valid base64: {error}"))
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD.decode(&text).map_err(serde::de::Error::custom)?;
        Ok(Self::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIF: &[u8] = b"GIF89a\x02\0\x01\0\x80\0\0";

    #[test]
    fn a_medium_survives_a_frame() {
        let sent = Media::new(MediaKind::Picture, 3, GIF.to_vec()).unwrap();
        let json = serde_json::to_value(&sent).unwrap();
        assert_eq!(json["bytes"], "R0lGODlhAgABAIAAAA==");
        assert_eq!(serde_json::from_value::<Media>(json).unwrap(), sent);
        assert_eq!(format!("{:?}", sent.bytes), "13 bytes");
    }

    #[test]
    fn base64_may_be_broken_and_without_padding() {
        for text in ["R0lG\nODlh\r\n", " R0lGODlh", "R0lGODlh"] {
            assert_eq!(decode_base64(text).unwrap(), b"GIF89a");
        }
        assert_eq!(decode_base64("R0lGODk").unwrap(), b"GIF89");
        assert!(decode_base64("R0l!").is_err());
    }

    #[test]
    fn too_much_is_refused() {
        let large = Media::new(MediaKind::Picture, 0, vec![0; MEDIUM_BYTES_MAX + 1]);
        assert!(large.unwrap_err().message.contains("12 MiB"));
        let one = Media::new(MediaKind::Picture, 0, GIF.to_vec()).unwrap();
        assert!(check_media(std::iter::repeat_n(&one, MEDIA_MAX)).is_ok());
        assert!(check_media(std::iter::repeat_n(&one, MEDIA_MAX + 1)).is_err());
    }
}
