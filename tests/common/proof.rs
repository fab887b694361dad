//! Which fields of which endpoints a test proves. `tests/clients/compatibility.py` reads the
//! markers from the sources and makes the table of compatibility in `docs/api/http.md` of
//! them. A marker stands in a test whose assertions fail without the field.

/// Endpoints and fields, with a remark where a field does not do what its API says:
/// `"no effect"`, or `"refused: "` and the reason.
macro_rules! proves {
    ($endpoints:expr, $fields:expr $(, $remark:literal)? $(,)?) => {
        $crate::proof::Proof {
            endpoints: $endpoints,
            fields: $fields,
        }
    };
}

/// A marker.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// Methods with paths, between commas.
    pub endpoints: &'static str,
    /// Names, between blanks; in a nested object with its name and a point.
    pub fields: &'static str,
}

impl Proof {
    /// Each path with each field.
    pub fn each(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let paths = self.endpoints.split(", ");
        let paths = paths.map(|endpoint| endpoint.split(' ').nth(1).unwrap());
        paths.flat_map(move |path| self.fields.split_whitespace().map(move |name| (path, name)))
    }
}
