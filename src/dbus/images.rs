//! The option `images`: pictures as file descriptors, so that they are not part of the bus's
//! messages.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};

use hearth_proto::{
    Failure, FailureKind, MEDIUM_BYTES_MAX, Media, MediaKind, Prompt, Submission, check_media,
};
use zbus::Variant;

use super::options::Options;

/// The name of the option.
pub(super) const IMAGES: &str = "images";

/// Puts the pictures of the option before the text of the user's last message.
pub(super) async fn attach(options: &Options, submission: &mut Submission) -> Result<(), Failure> {
    let files = files(options)?;
    if files.is_empty() {
        return Ok(());
    }
    let read = tokio::task::spawn_blocking(|| {
        let media = files.into_iter().enumerate().map(|(n, file)| read(n, file));
        media.collect::<Result<Vec<_>, _>>()
    });
    let media = read
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))??;
    let Prompt::Chat { messages, .. } = &mut submission.request.prompt else {
        return Err(Failure::invalid_field(IMAGES, "needs a conversation"));
    };
    let of_user = messages.iter().rposition(|message| message.role == "user");
    let at =
        of_user.ok_or_else(|| Failure::invalid_field(IMAGES, "needs a message of the user"))?;
    messages[at].media.splice(0..0, media);
    check_media(submission.request.prompt.media())
}

/// The descriptors, as files of their own.
fn files(options: &Options) -> Result<Vec<File>, Failure> {
    let wrong = || Failure::invalid("option \"images\" must be a list of file descriptors (ah)");
    let Some(value) = options.get(IMAGES) else {
        return Ok(Vec::new());
    };
    let Variant::Array(list) = &**value else {
        return Err(wrong());
    };
    let file = |value: &Variant<'_>| match value {
        Variant::Fd(fd) => {
            let own = fd.as_fd().try_clone_to_owned();
            own.map_err(|error| failed(&error))
        }
        _ => Err(wrong()),
    };
    let descriptors: Vec<OwnedFd> = list.inner().iter().map(file).collect::<Result<_, _>>()?;
    Ok(descriptors.into_iter().map(File::from).collect())
}

/// Reads one picture, from its beginning. A pipe could block forever: it has to be a file.
fn read(n: usize, mut file: File) -> Result<Media, Failure> {
    let meta = file.metadata().map_err(|error| failed(&error))?;
    if !meta.is_file() {
        return Err(Failure::invalid(format!(
            "option \"images\": number {n} is not a regular file: pass a file or a memfd"
        )));
    }
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| {
            let mut bounded = (&file).take(MEDIUM_BYTES_MAX as u64 + 1);
            bounded.read_to_end(&mut bytes)
        })
        .map_err(|error| failed(&error))?;
    Media::new(MediaKind::Picture, 0, bytes).map_err(|failure| Failure {
        message: format!("option \"images\": number {n} {}", failure.message),
        ..failure
    })
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::new(
        FailureKind::Io,
        format!("option \"images\" cannot be read: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zbus::OwnedVariant;

    use super::*;

    fn options(files: Vec<File>) -> Options {
        let list: Vec<zbus::Fd<'static>> = files
            .into_iter()
            .map(|file| zbus::Fd::from(OwnedFd::from(file)))
            .collect();
        let value = OwnedVariant::try_from(Variant::from(list)).unwrap();
        Options::from([(IMAGES.to_owned(), value)])
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn submission() -> Submission {
        Submission::new(Prompt::Chat {
            messages: vec![hearth_proto::Message::user("What is this?")],
            tools: Vec::new(),
        })
    }

    #[tokio::test]
    async fn pictures_are_read_from_their_beginning() {
        let gif = b"GIF89a\x02\0\x01\0\x80\0\0";
        let mut submission = submission();
        attach(&options(vec![file(gif), file(gif)]), &mut submission)
            .await
            .unwrap();
        let media: Vec<_> = submission.request.prompt.media().collect();
        assert_eq!((media.len(), &*media[0].bytes), (2, &gif[..]));
    }

    #[tokio::test]
    async fn other_files_are_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let pipe = File::from(OwnedFd::from(reader));
        for (files, part) in [
            (vec![pipe], "regular file"),
            (vec![file(b"hello")], "no picture"),
            (vec![file(&vec![0; MEDIUM_BYTES_MAX + 1])], "12 MiB"),
        ] {
            let refused = attach(&options(files), &mut submission()).await;
            let failure = refused.unwrap_err();
            assert!(failure.message.contains(part), "{failure}");
        }
        let value = OwnedVariant::try_from(Variant::from(3_u32)).unwrap();
        let wrong = Options::from([(IMAGES.to_owned(), value)]);
        assert!(attach(&wrong, &mut submission()).await.is_err());
    }
}
