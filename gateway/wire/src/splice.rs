//! Splicing: a body with a few places changed, everything else byte for byte as it came.
//!
//! Edits name places that [`crate::peek()`] found in the same body, and what is put in must be JSON already; the result
//! is then JSON again. Nothing is copied until [`Splice::to_vec`]; [`Splice::parts`] names the parts for vectored
//! writes. Edits that overlap or lie outside of the body cannot come from one peek; they are cut down, never a panic.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use crate::peek::{Opening, Peek, Span};

/// A list of edits to one body.
#[derive(Debug, Clone)]
pub struct Splice<'a> {
    body: &'a [u8],
    edits: SmallVec<[Edit<'a>; 4]>,
}

/// A part of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// Bytes of the body, by their place in it.
    Kept(Range<usize>),
    /// Bytes that were put in.
    New(&'a [u8]),
}

impl Part<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Part::Kept(range) => range.is_empty(),
            Part::New(bytes) => bytes.is_empty(),
        }
    }
}

#[derive(Debug, Clone)]
enum Edit<'a> {
    Replace(Range<usize>, Cow<'a, [u8]>),
    Insert(usize, Cow<'a, [u8]>),
    Remove(Range<usize>),
}

impl Edit<'_> {
    /// Edits are applied in this order: what is inserted after a `{` comes before what stands there.
    fn place(&self) -> (usize, u8) {
        match self {
            Edit::Insert(after, _) => (*after, 0),
            Edit::Replace(range, _) | Edit::Remove(range) => (range.start, 1),
        }
    }
}

impl<'a> Splice<'a> {
    /// No edits yet: the result is the body.
    pub fn new(body: &'a [u8]) -> Self {
        Splice { body, edits: SmallVec::new() }
    }

    /// Puts the JSON text `value` in place of the value at `range`.
    pub fn replace(&mut self, range: Range<usize>, value: impl Into<Cow<'a, [u8]>>) {
        self.edits.push(Edit::Replace(range, value.into()));
    }

    /// Puts `member` (JSON text `"name":value`) in as the first member of an object. The name must not be there yet.
    pub fn insert(&mut self, object: Opening, member: impl Into<Cow<'a, [u8]>>) {
        self.edits.push(Edit::Insert(object.after, member.into()));
    }

    /// Takes a member out, with the comma that it no longer needs.
    pub fn remove(&mut self, member: &Span) {
        let mut range = member.name_start..member.value.end;
        let next = self.skip_forward(range.end);
        if self.body.get(next) == Some(&b',') {
            range.end = next + 1;
        } else if let Some(comma) = self.skip_backward(range.start).checked_sub(1)
            && self.body.get(comma) == Some(&b',')
        {
            range.start = comma;
        }
        self.edits.push(Edit::Remove(range));
    }

    /// Renames the model. Returns whether there was one to rename.
    pub fn rename_model(&mut self, peek: &Peek<'_>, model: &str) -> bool {
        let Some(member) = &peek.model else { return false };
        self.replace(member.span.value.clone(), crate::json_string(model).into_bytes());
        true
    }

    /// Asks the vendor for the usage chunk at the end of the stream. Returns whether that is a change: `false` means
    /// that the client asked for it already and is to get it.
    pub fn request_usage(&mut self, peek: &Peek<'_>) -> bool {
        const OPTIONS: &[u8] = br#"{"include_usage":true}"#;
        const MEMBER: &[u8] = br#""include_usage":true"#;
        match &peek.stream_options {
            None => self.insert(peek.opening, &br#""stream_options":{"include_usage":true}"#[..]),
            Some(options) => match (&options.include_usage, options.opening) {
                (Some(member), _) if member.value == Some(true) => return false,
                (Some(member), _) => self.replace(member.span.value.clone(), &b"true"[..]),
                (None, Some(opening)) => self.insert(opening, MEMBER),
                (None, None) => self.replace(options.span.value.clone(), OPTIONS),
            },
        }
        true
    }

    /// Whether the result is the body as it came.
    pub fn is_unchanged(&self) -> bool {
        self.edits.is_empty()
    }

    /// The parts of the result, in order.
    pub fn parts(&self) -> SmallVec<[Part<'_>; 8]> {
        let mut parts: SmallVec<[Part<'_>; 8]> = SmallVec::new();
        let mut copied = 0;
        for edit in self.in_order() {
            let start = edit.place().0.clamp(copied, self.body.len());
            parts.push(Part::Kept(copied..start));
            copied = start;
            match edit {
                Edit::Insert(after, member) => {
                    parts.push(Part::New(member));
                    if self.needs_comma(edit, *after) {
                        parts.push(Part::New(b","));
                    }
                }
                Edit::Replace(range, value) => {
                    parts.push(Part::New(value));
                    copied = range.end.clamp(copied, self.body.len());
                }
                Edit::Remove(range) => copied = range.end.clamp(copied, self.body.len()),
            }
        }
        parts.push(Part::Kept(copied..self.body.len()));
        parts.retain(|part| !part.is_empty());
        parts
    }

    /// The result in one buffer of exactly its size.
    pub fn to_vec(&self) -> Vec<u8> {
        let bytes = |part| match part {
            Part::Kept(range) => self.body.get(range).unwrap_or_default(),
            Part::New(bytes) => bytes,
        };
        self.parts().into_iter().map(bytes).collect::<SmallVec<[&[u8]; 8]>>().concat()
    }

    fn in_order(&self) -> SmallVec<[&Edit<'a>; 4]> {
        let mut edits: SmallVec<[&Edit<'a>; 4]> = self.edits.iter().collect();
        edits.sort_by_key(|edit| edit.place());
        edits
    }

    /// Whether something follows what `insert` puts in at `after`: another inserted member, or one that stays.
    fn needs_comma(&self, insert: &Edit<'_>, after: usize) -> bool {
        let last = self.edits.iter().rfind(|edit| matches!(edit, Edit::Insert(place, _) if *place == after));
        let is_last = last.is_some_and(|last| std::ptr::eq(last, insert));
        !is_last || self.body.get(self.skip_forward(after)) != Some(&b'}')
    }

    /// From `at` on, the first offset that is neither whitespace nor removed.
    fn skip_forward(&self, mut at: usize) -> usize {
        loop {
            if let Some(removed) = self.removed().find(|removed| removed.contains(&at)) {
                at = removed.end;
            } else if self.body.get(at).is_some_and(u8::is_ascii_whitespace) {
                at += 1;
            } else {
                return at;
            }
        }
    }

    /// The end of the last byte before `at` that is neither whitespace nor removed.
    fn skip_backward(&self, mut at: usize) -> usize {
        while let Some(before) = at.checked_sub(1) {
            if let Some(removed) = self.removed().find(|removed| removed.contains(&before)) {
                at = removed.start;
            } else if self.body.get(before).is_some_and(u8::is_ascii_whitespace) {
                at = before;
            } else {
                break;
            }
        }
        at
    }

    fn removed(&self) -> impl Iterator<Item = &Range<usize>> {
        self.edits.iter().filter_map(|edit| match edit {
            Edit::Remove(range) => Some(range),
            Edit::Insert(..) | Edit::Replace(..) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peek::peek;

    fn edited(body: &str, edit: impl FnOnce(&mut Splice<'_>, &Peek<'_>)) -> String {
        let peeked = peek(body.as_bytes()).unwrap();
        let mut splice = Splice::new(body.as_bytes());
        edit(&mut splice, &peeked);
        String::from_utf8(splice.to_vec()).unwrap()
    }

    #[test]
    fn no_edit_leaves_the_body_as_it_is() {
        assert_eq!(edited(" {\"model\" : \"a\"} ", |_, _| ()), " {\"model\" : \"a\"} ");
    }

    #[test]
    fn a_renamed_model_is_escaped_and_the_rest_stays() {
        let body = r#"{ "messages":[], "model" : "openai\/gpt-4o" ,"x":1 }"#;
        let renamed = edited(body, |splice, peek| assert!(splice.rename_model(peek, "a\"b")));
        assert_eq!(renamed, r#"{ "messages":[], "model" : "a\"b" ,"x":1 }"#);
        edited("{}", |splice, peek| assert!(!splice.rename_model(peek, "a")));
    }

    #[test]
    fn usage_is_asked_for_however_the_options_look() {
        for (body, result) in [
            ("{}", r#"{"stream_options":{"include_usage":true}}"#),
            ("{ \"a\":1}", r#"{"stream_options":{"include_usage":true}, "a":1}"#),
            (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{ }}"#, r#"{"stream_options":{"include_usage":true }}"#),
            (r#"{"stream_options":{"x":1}}"#, r#"{"stream_options":{"include_usage":true,"x":1}}"#),
            (r#"{"stream_options":{"include_usage":false}}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{"include_usage": null }}"#, r#"{"stream_options":{"include_usage": true }}"#),
        ] {
            assert_eq!(edited(body, |splice, peek| assert!(splice.request_usage(peek))), result);
        }
    }

    #[test]
    fn usage_that_the_client_asked_for_is_no_change() {
        let body = r#"{"stream_options":{"include_usage":true}}"#;
        edited(body, |splice, peek| {
            assert!(!splice.request_usage(peek));
            assert!(splice.is_unchanged());
        });
    }

    #[test]
    fn removed_members_take_one_comma_with_them_in_any_order() {
        let body = r#"{"x":0 , "model":"m" , "user":"u"}"#;
        let user = |splice: &mut Splice<'_>, peek: &Peek<'_>| splice.remove(&peek.user.as_ref().unwrap().span);
        let model = |splice: &mut Splice<'_>, peek: &Peek<'_>| splice.remove(&peek.model.as_ref().unwrap().span);
        assert_eq!(edited(body, user), r#"{"x":0 , "model":"m" }"#);
        assert_eq!(edited(body, model), r#"{"x":0 ,  "user":"u"}"#);
        for order in [true, false] {
            let result = edited(body, |splice, peek| {
                if order {
                    (user(splice, peek), model(splice, peek))
                } else {
                    (model(splice, peek), user(splice, peek))
                };
            });
            assert_eq!(result.replace(' ', ""), r#"{"x":0}"#);
        }
    }

    #[test]
    fn members_go_in_where_all_others_go_out() {
        let result = edited(r#"{"model":"m", "user":"u"}"#, |splice, peek| {
            splice.remove(&peek.model.as_ref().unwrap().span);
            splice.insert(peek.opening, &br#""a":1"#[..]);
            splice.insert(peek.opening, &br#""b":2"#[..]);
            splice.remove(&peek.user.as_ref().unwrap().span);
        });
        assert_eq!(result.replace(' ', ""), r#"{"a":1,"b":2}"#);
    }

    #[test]
    fn edits_outside_of_the_body_do_not_panic() {
        let mut splice = Splice::new(b"{}");
        splice.replace(5..9, &b"1"[..]);
        splice.replace(0..1, &b"["[..]);
        splice.remove(&Span { name_start: 7, value: 8..9 });
        splice.insert(Opening { after: 100, empty: false }, &b"x"[..]);
        assert!(splice.to_vec().starts_with(b"[}"));
    }
}
