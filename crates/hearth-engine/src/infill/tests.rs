use hearth_constraint::Vocabulary;

use super::*;
use crate::backend::{ChatFormat, RerankFormat};

/// Bytes as tokens. In `tokenize`, `!` is a control token.
struct Bytes(Option<InfillTokens>);

const CONTROL: Token = 300;

impl Tokenizer for Bytes {
    fn chat_format(&self) -> ChatFormat {
        ChatFormat::default()
    }

    fn tokenize(&self, text: &str, _: bool) -> Vec<Token> {
        let token = |byte| match byte {
            b'!' => CONTROL,
            byte => Token::from(byte),
        };
        text.bytes().map(token).collect()
    }

    fn tokenize_literal(&self, text: &str, _: bool) -> Vec<Token> {
        text.bytes().map(Token::from).collect()
    }

    fn infill_tokens(&self) -> Option<InfillTokens> {
        self.0
    }

    fn rerank_format(&self) -> RerankFormat {
        RerankFormat::default()
    }

    fn piece(&self, _: Token) -> Vec<u8> {
        Vec::new()
    }

    fn is_end(&self, _: Token) -> bool {
        false
    }

    fn vocabulary(&self) -> Result<Vocabulary, Failure> {
        Err(not_supported())
    }
}

const PLAIN: InfillTokens = InfillTokens {
    prefix: 256,
    suffix: 257,
    middle: 258,
    repository: None,
    file: None,
    bos: None,
};

const FULL: InfillTokens = InfillTokens {
    repository: Some(259),
    file: Some(260),
    bos: Some(261),
    ..PLAIN
};

fn shown(tokens: &[Token]) -> String {
    let token = |token: &Token| match token {
        256 => "<pre>".to_owned(),
        257 => "<suf>".to_owned(),
        258 => "<mid>".to_owned(),
        259 => "<repo>".to_owned(),
        260 => "<file>".to_owned(),
        261 => "<bos>".to_owned(),
        300 => "<control>".to_owned(),
        byte => char::from(u8::try_from(*byte).unwrap()).to_string(),
    };
    tokens.iter().map(token).collect()
}

fn texts(extra: Option<&[(&str, &str)]>) -> Infill {
    let snippet = |(filename, text): &(&str, &str)| Snippet {
        filename: (*filename).into(),
        text: (*text).into(),
    };
    Infill {
        prefix: "a!".into(),
        suffix: "z!".into(),
        prompt: "b!".into(),
        extra: extra.map(|list| list.iter().map(snippet).collect()),
    }
}

#[test]
fn texts_are_arranged_by_the_tokens_that_there_are() {
    let files: &[(&str, &str)] = &[("x.py", "X"), ("y.py", "Y")];
    for (special, extra, expected) in [
        (PLAIN, None, "<pre>a!b<control><suf>z!<mid>"),
        (FULL, None, "<bos><pre>a!b<control><suf>z!<mid>"),
        (
            FULL,
            Some([].as_slice()),
            "<repo>myproject\n<file>filename\n<bos><pre>a!b<control><suf>z!<mid>",
        ),
        (
            FULL,
            Some(files),
            "<repo>myproject\n<file>x.py\nX<file>y.py\nY<file>filename\n<bos><pre>a!b<control><suf>z!<mid>",
        ),
        (
            PLAIN,
            Some(files),
            "\n\n--- snippet ---\n\nX\n\n--- snippet ---\n\nY<pre>a!b<control><suf>z!<mid>",
        ),
    ] {
        let tokens = tokens(&Bytes(Some(special)), &texts(extra), (4096, Some(16))).unwrap();
        assert_eq!(shown(&tokens), expected);
    }
}

#[test]
fn without_the_tokens_it_says_what_to_do() {
    let failure = tokens(&Bytes(None), &texts(None), (4096, None)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotSupported);
    assert!(failure.message.contains("Qwen2.5-Coder"), "{failure}");
}

#[test]
fn long_texts_are_shortened_where_they_are_farthest() {
    let long = |letter: &str| letter.repeat(100_000);
    for (context, max_tokens) in [
        (512, Some(16)),
        (1024, None),
        (4096, Some(64)),
        (32_768, None),
    ] {
        let (prefix, suffix) = (format!("{}p", long("P")), format!("s{}", long("S")));
        let file = |name: &str| Snippet {
            filename: name.into(),
            text: format!("{}f", long("F")),
        };
        let infill = Infill {
            prefix,
            suffix,
            prompt: "begin".into(),
            extra: Some(vec![file("first"), file("last")]),
        };
        let room = Room::new(context, max_tokens);
        let tokens = tokens(&Bytes(Some(FULL)), &infill, (context, max_tokens)).unwrap();
        assert!(
            tokens.len() < context as usize,
            "{context}: {}",
            tokens.len()
        );
        let text = shown(&tokens);
        let (extra, rest) = text.split_once("<bos><pre>").unwrap();
        let (before, after) = rest.split_once("<suf>").unwrap();
        assert_eq!(before.len(), room.prefix + "begin".len());
        assert!(
            before.ends_with("Ppbegin") && before.starts_with("PP"),
            "{context}"
        );
        assert!(
            after.starts_with("sS") && after.ends_with("S<mid>"),
            "{context}"
        );
        assert_eq!(after.len(), room.suffix - 2 - "begin".len() + "<mid>".len());
        if context >= 4096 {
            assert!(extra.ends_with("Ff<file>filename\n"), "{context}: {extra}");
        }
    }
}

#[test]
fn no_more_is_tokenized_than_can_have_room() {
    let text = "é".repeat(1000);
    assert_eq!(end_of(&text, 3).len(), 3 * BYTES_PER_TOKEN);
    // An odd number of bytes before ends within a character.
    let shifted = format!("x{text}");
    assert_eq!(beginning_of(&shifted, 3).len(), 3 * BYTES_PER_TOKEN - 1);
    assert_eq!(
        end_of(&format!("{text}x"), 3).len(),
        3 * BYTES_PER_TOKEN - 1
    );
    assert_eq!(end_of("short", 3), "short");
    assert_eq!(beginning_of("short", 3), "short");
    let snippets: Vec<Snippet> = (0..100)
        .map(|n| Snippet {
            filename: n.to_string(),
            text: text.clone(),
        })
        .collect();
    let kept = kept(&snippets, 70);
    assert_eq!(kept.last().unwrap().0.filename, "99");
    let bytes: usize = kept.iter().map(|(_, text)| text.len()).sum();
    assert!(bytes <= 71 * BYTES_PER_TOKEN && kept.len() == 2, "{bytes}");
}

#[test]
fn the_room_is_that_of_llama_cpps_server() {
    // `llama-server --ctx-size 4096 --predict 64`, whose batch size is 2048.
    let room = Room {
        prefix: 1536,
        suffix: 512,
        extra: 4096 - 2048 - 2 * 64,
    };
    assert_eq!(Room::new(4096, Some(64)), room);
}
