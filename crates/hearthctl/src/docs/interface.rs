//! The manual page of the D-Bus interface, generated from its introspection files. A test
//! compares these with the running service.

#[cfg(test)]
mod reference;

use std::fmt::Write as _;

use hearth_proto::bus::{ERRORS, NAME, PATH};

use super::roff::{escaped, paragraphs};

/// The introspection files, with the path of the object below the main one.
const INTERFACES: [(&str, &str); 7] = [
    (
        include_str!("../../../../docs/api/org.hearthd.Inference1.xml"),
        "",
    ),
    (
        include_str!("../../../../docs/api/org.hearthd.Inference1.ModelStore.xml"),
        "",
    ),
    (
        include_str!("../../../../docs/api/org.hearthd.Inference1.Tuning.xml"),
        "",
    ),
    (
        include_str!("../../../../docs/api/org.hearthd.Inference1.PromptCache.xml"),
        "",
    ),
    (
        include_str!("../../../../docs/api/org.hearthd.Inference1.Model.xml"),
        "/models/NAME",
    ),
    (
        include_str!("../../../../docs/api/org.hearthd.Inference1.Job.xml"),
        "/jobs/ID",
    ),
    (
        include_str!("../../../../docs/api/org.hearthd.Inference1.Session.xml"),
        "/sessions/ID",
    ),
];

/// The XML elements of members, and the titles of their lists.
const KINDS: [(&str, &str); 3] = [
    ("method", "Methods"),
    ("signal", "Signals"),
    ("property", "Properties"),
];

const DESCRIPTION: &str = "\
hearthd answers prompts with a small language model that runs on this computer.
Programs reach it on the system bus under the name and object below. Root may use it,
and members of the group `hearth`.

Options dictionaries (a{sv}) are part of most methods. An option that a method does not
support is an error that names it. Calls may take long on a small board: `busctl` times out
after 25 seconds unless called with `--timeout=600`; `Submit` returns immediately.

Requests and responses in JSON are those of OpenAI's chat completions. If polkit(8)
runs, it decides whether members of the group may load, unload, import and remove models
and clear the cache; see the actions org.hearthd.*.";

/// One method, signal or property.
#[derive(Debug, Default, PartialEq)]
struct Member {
    /// The XML element.
    kind: String,
    name: String,
    doc: String,
    /// A property's type.
    ty: String,
    /// Name, type, and whether it is returned.
    args: Vec<(String, String, bool)>,
}

impl Member {
    /// The call syntax: `Name(s text) -> u tokens`.
    fn signature(&self) -> String {
        let list = |out: bool| {
            let args = self.args.iter().filter(|arg| arg.2 == out);
            let args = args.map(|(name, ty, _)| format!("{ty} {name}").trim_end().to_owned());
            args.collect::<Vec<_>>().join(", ")
        };
        match (self.kind.as_str(), list(true)) {
            ("property", _) => format!("{} {}", self.name, self.ty),
            ("signal", args) => format!("{}({args})", self.name),
            (_, answers) if answers.is_empty() => format!("{}({})", self.name, list(false)),
            (_, answers) => format!("{}({}) -> {answers}", self.name, list(false)),
        }
    }
}

/// The whole page. It has no date, so that the output is reproducible.
pub fn page() -> String {
    let mut page = format!(
        ".TH {} 5 \"\" \"hearthd {}\" \"Hearthd\"\n.SH NAME\n{} \\- the D\\-Bus interface of hearthd\n\
         .SH SYNOPSIS\n.B busctl introspect\n{}\n{}\n.SH DESCRIPTION\n",
        NAME.to_uppercase(),
        env!("CARGO_PKG_VERSION"),
        NAME,
        NAME,
        PATH,
    );
    paragraphs(&mut page, DESCRIPTION);
    for (xml, below) in INTERFACES {
        let (name, members) = parse(xml);
        _ = writeln!(page, ".SH \"{name}\"\nObject\n.I {PATH}{below}");
        for (kind, title) in KINDS {
            let of_kind: Vec<&Member> = members.iter().filter(|m| m.kind == kind).collect();
            if of_kind.is_empty() {
                continue;
            }
            _ = writeln!(page, ".SS {title}");
            for member in of_kind {
                _ = writeln!(page, ".TP\n.B {}", escaped(&member.signature()));
                paragraphs(&mut page, &member.doc);
            }
        }
    }
    _ = writeln!(
        page,
        ".SH ERRORS\nThe service's own error names begin with\n.BR {NAME}.Error. :"
    );
    for (kind, meaning) in ERRORS {
        _ = writeln!(page, ".TP\n.B {kind:?}");
        paragraphs(&mut page, meaning);
    }
    page.push_str(
        ".PP\nBesides the standard AccessDenied, InvalidArgs, IOError and Failed. Each message \
         states what to do next. If a retry can succeed, a second argument (u) is the number of \
         seconds to wait before it.\n.SH SEE ALSO\n.BR hearthctl (1),\n.BR busctl (1),\n.BR hearthd (8)\n",
    );
    page
}

/// The name and members of the interface, in file order. These files have one element or
/// comment delimiter per line.
fn parse(xml: &str) -> (String, Vec<Member>) {
    let (mut interface, mut members) = (String::new(), Vec::<Member>::new());
    let (mut doc, mut in_comment) = (String::new(), false);
    for line in xml.lines().map(str::trim) {
        let element = line.trim_start_matches('<');
        let kind = element.split([' ', '>', '/']).next().unwrap_or_default();
        match kind {
            "!--" => {
                doc.clear();
                in_comment = true;
            }
            "--" if line == "-->" => in_comment = false,
            _ if in_comment => {
                doc.push_str(line);
                doc.push('\n');
            }
            "interface" => interface = attribute(line, "name"),
            "method" | "signal" | "property" => members.push(Member {
                kind: kind.to_owned(),
                name: attribute(line, "name"),
                doc: std::mem::take(&mut doc),
                ty: attribute(line, "type"),
                args: Vec::new(),
            }),
            "arg" => {
                if let Some(member) = members.last_mut() {
                    // The arguments of a signal have no direction: all are output.
                    let out = attribute(line, "direction") != "in";
                    member
                        .args
                        .push((attribute(line, "name"), attribute(line, "type"), out));
                }
            }
            _ => {}
        }
    }
    (interface, members)
}

fn attribute(line: &str, name: &str) -> String {
    let value = line
        .split_once(&format!(" {name}=\""))
        .map(|(_, rest)| rest);
    let value = value.and_then(|rest| rest.split('"').next());
    value.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_with_their_documentation() {
        let xml = r#"
<node>
  <interface name="a.B">
    <!--
     One -- `two`
     lines.
     -->
    <method name="Do">
      <arg name="x" type="a{sv}" direction="in"/>
      <arg type="u" direction="out"/>
    </method>
    <!--
     Over.
     -->
    <signal name="Done">
      <arg name="state" type="s"/>
    </signal>
    <property name="State" type="s" access="read"/>
  </interface>
</node>"#;
        let (name, members) = parse(xml);
        assert_eq!(name, "a.B");
        let seen: Vec<(String, &str)> = members
            .iter()
            .map(|m| (m.signature(), m.doc.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("Do(a{sv} x) -> u".to_owned(), "One -- `two`\nlines.\n"),
                ("Done(s state)".to_owned(), "Over.\n"),
                ("State s".to_owned(), ""),
            ]
        );
    }

    #[test]
    fn the_page_has_every_member_and_every_error() {
        let page = page();
        for (xml, _) in INTERFACES {
            let (interface, members) = parse(xml);
            assert!(
                page.contains(&format!(".SH \"{interface}\"")),
                "{interface}"
            );
            for member in members {
                assert!(
                    !member.doc.is_empty(),
                    "{} has no documentation",
                    member.name
                );
                let line = format!("\n.B {}\n", escaped(&member.signature()));
                assert!(page.contains(&line), "{line}");
            }
        }
        for (kind, meaning) in ERRORS {
            assert!(page.contains(&format!("\n.B {kind:?}\n")) && !meaning.is_empty());
        }
    }
}
