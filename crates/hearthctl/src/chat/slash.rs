//! The commands of a chat.

/// Output of `/help`.
pub const HELP: &str = "\
/help         this list
/clear        delete the conversation, keep the system prompt
/system TEXT  set the system prompt; show it if TEXT is omitted
/tools        list the tools of the MCP servers
/stats        speed and size of the last answer and of the conversation
/quit         exit (also Ctrl-D)
Ctrl-C        stop the answer, keep the conversation";

/// A chat command, which is not sent to the model.
#[derive(Debug, PartialEq, Eq)]
pub enum Slash<'a> {
    Help,
    Clear,
    System(&'a str),
    Stats,
    Tools,
    Quit,
    Unknown(&'a str),
}

impl<'a> Slash<'a> {
    /// `None` for a message.
    pub fn parse(line: &'a str) -> Option<Self> {
        if !line.starts_with('/') {
            return None;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Some(match word {
            "/help" | "/?" => Self::Help,
            "/clear" => Self::Clear,
            "/system" => Self::System(rest.trim()),
            "/stats" => Self::Stats,
            "/tools" => Self::Tools,
            "/quit" | "/exit" => Self::Quit,
            // A path such as /etc/fstab is a message.
            word if word[1..].contains('/') => return None,
            word => Self::Unknown(word),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_distinguished_from_messages() {
        assert_eq!(Slash::parse("hello /help"), None);
        assert_eq!(Slash::parse("/etc/fstab is what?"), None);
        assert_eq!(Slash::parse("/help"), Some(Slash::Help));
        assert_eq!(
            Slash::parse("/system  be brief "),
            Some(Slash::System("be brief"))
        );
        assert_eq!(Slash::parse("/system"), Some(Slash::System("")));
        assert_eq!(Slash::parse("/foo bar"), Some(Slash::Unknown("/foo")));
    }
}
