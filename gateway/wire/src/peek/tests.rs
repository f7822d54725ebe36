use super::*;

fn refused(body: &str) -> PeekError {
    peek(body.as_bytes()).expect_err(body)
}

#[test]
fn known_members_are_found_with_their_values_and_places() {
    let body = r#" { "model" : "gpt-4o", "messages":[{"model":"no"}], "stream":true, "store":false,
        "user":"u", "safety_identifier":"s", "metadata":{"a":"b", "user_id" : "m"}, "prompt_cache_key":"p",
        "previous_response_id":"r", "fallbacks":["a/b"], "stream_options":{"include_usage":true} } "#;
    let peeked = peek(body.as_bytes()).unwrap();
    assert_eq!(peeked.opening, Opening { after: 2, empty: false });
    assert_eq!(peeked.model(), Some("gpt-4o"));
    assert!(peeked.is_stream() && peeked.asks_for_usage() && peeked.has_fallbacks());
    assert_eq!(peeked.store.as_ref().map(|member| member.value), Some(false));
    assert_eq!(peeked.end_user(), Some("s"));
    for (member, name, value) in [
        (&peeked.model, "\"model\"", "gpt-4o"),
        (&peeked.user, "\"user\"", "u"),
        (&peeked.safety_identifier, "\"safety_identifier\"", "s"),
        (&peeked.metadata_user_id, "\"user_id\"", "m"),
        (&peeked.prompt_cache_key, "\"prompt_cache_key\"", "p"),
        (&peeked.previous_response_id, "\"previous_response_id\"", "r"),
    ] {
        let member = member.as_ref().unwrap();
        assert_eq!(member.value, value);
        assert!(matches!(member.value, Cow::Borrowed(_)));
        assert_eq!(body[member.span.value.clone()], format!("\"{value}\""));
        assert!(body[member.span.name_start..].starts_with(name));
    }
    let options = peeked.stream_options.unwrap();
    assert_eq!(&body[options.span.value.clone()], r#"{"include_usage":true}"#);
    assert_eq!(&body[options.include_usage.unwrap().span.value], "true");
}

#[test]
fn an_object_without_known_members_is_fine() {
    let peeked = peek(b"{ }").unwrap();
    assert_eq!(peeked, Peek { opening: Opening { after: 1, empty: true }, ..Peek::default() });
    assert_eq!(peek(br#"{"":1,"modes":2,"MODES":3,"a":4,"a":5}"#).unwrap().model(), None);
}

#[test]
fn null_counts_as_absent() {
    let body = r#"{"model":null,"stream":null,"store":null,"user":null,"metadata":null,"fallbacks":null,"stream_options":null}"#;
    let peeked = peek(body.as_bytes()).unwrap();
    assert_eq!((peeked.model(), peeked.is_stream(), peeked.end_user()), (None, false, None));
    assert!(!peeked.has_fallbacks() && peeked.store.is_none());
    assert_eq!(peeked.stream_options.unwrap().opening, None);
    assert!(peek(br#"{"metadata":{"user_id":null},"stream_options":{"include_usage":null}}"#).is_ok());
}

#[test]
fn empty_fallbacks_name_nothing_and_empty_users_nobody() {
    assert!(!peek(br#"{"fallbacks":[ ]}"#).unwrap().has_fallbacks());
    assert_eq!(peek(br#"{"user":"","metadata":{"user_id":"m"}}"#).unwrap().end_user(), Some("m"));
}

#[test]
fn escapes_in_names_and_values_are_decoded() {
    let body = br#"{"mod\u0065l":"gpt\u002d4o \ud83d\ude00\n","metadata":{"user\u005fid":"\"x\""}}"#;
    let peeked = peek(body).unwrap();
    assert_eq!(peeked.model(), Some("gpt-4o 😀\n"));
    assert_eq!(peeked.end_user(), Some("\"x\""));
}

#[test]
fn a_known_name_twice_is_refused_however_it_is_written() {
    for (body, member) in [
        (r#"{"model":"a","model":"a"}"#, Known::Model),
        (r#"{"model":"a","mod\u0065l":"b"}"#, Known::Model),
        (r#"{"model":null,"model":"b"}"#, Known::Model),
        (r#"{"metadata":{},"metadata":{}}"#, Known::Metadata),
        (r#"{"metadata":{"user_id":"a","user_\u0069d":"b"}}"#, Known::MetadataUserId),
        (r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#, Known::IncludeUsage),
    ] {
        assert!(matches!(refused(body), PeekError::Duplicate { member: found, .. } if found == member), "{body}");
    }
    assert_eq!(refused(r#"{"model":"a","model":"b"}"#), PeekError::Duplicate { member: Known::Model, offset: 13 });
}

#[test]
fn a_known_name_in_another_case_is_refused() {
    for (body, member) in [
        (r#"{"Model":"a"}"#, Known::Model),
        (r#"{"model":"a","MODEL":"b"}"#, Known::Model),
        (r#"{"\u004dodel":"a"}"#, Known::Model),
        ("{\"\u{17f}tream\":true}", Known::Stream),
        (r#"{"\u017ftream":true}"#, Known::Stream),
        ("{\"prompt_cache_\u{212a}ey\":\"a\"}", Known::PromptCacheKey),
        (r#"{"stream_options":{"Include_Usage":true}}"#, Known::IncludeUsage),
    ] {
        assert!(matches!(refused(body), PeekError::OtherCase { member: found, .. } if found == member), "{body}");
    }
}

#[test]
fn names_in_metadata_are_the_callers_own() {
    let peeked = peek(br#"{"metadata":{"User_ID":"a","user_id":"b","model":"x","x":"y","x":"z"}}"#).unwrap();
    assert_eq!(peeked.end_user(), Some("b"));
}

#[test]
fn wrong_types_are_refused_by_name() {
    for (body, member) in [
        (r#"{"model":5}"#, Known::Model),
        (r#"{"model":["a"]}"#, Known::Model),
        (r#"{"stream":"true"}"#, Known::Stream),
        (r#"{"stream":1}"#, Known::Stream),
        (r#"{"store":{}}"#, Known::Store),
        (r#"{"user":true}"#, Known::User),
        (r#"{"metadata":"x"}"#, Known::Metadata),
        (r#"{"metadata":{"user_id":7}}"#, Known::MetadataUserId),
        (r#"{"fallbacks":"a/b"}"#, Known::Fallbacks),
        (r#"{"stream_options":[]}"#, Known::StreamOptions),
        (r#"{"stream_options":{"include_usage":0}}"#, Known::IncludeUsage),
    ] {
        assert!(matches!(refused(body), PeekError::WrongType { member: found, .. } if found == member), "{body}");
    }
    let message = refused(r#"{"model":5}"#).to_string();
    assert_eq!(message, "`model` must be a string, not a number (byte 9 of the request body)");
}

#[test]
fn what_is_no_object_is_refused() {
    assert_eq!(refused(""), PeekError::Empty);
    assert_eq!(refused(" \n"), PeekError::Empty);
    assert_eq!(refused("\u{feff}{}"), PeekError::ByteOrderMark);
    assert_eq!(peek(b"{\"a\":\"\xff\"}"), Err(PeekError::InvalidUtf8 { offset: 6 }));
    assert_eq!(peek(b"{\"a\":\"\xed\xa0\x80\"}"), Err(PeekError::InvalidUtf8 { offset: 6 }));
    for (body, found) in [
        ("[]", JsonType::Array),
        ("\"a\"", JsonType::String),
        ("-1", JsonType::Number),
        ("true", JsonType::Boolean),
        ("null", JsonType::Null),
    ] {
        assert_eq!(refused(body), PeekError::NotAnObject { found });
    }
    for body in [
        "model=gpt",
        "nope",
        "{",
        "{\"model\"",
        "{'model':1}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"model\":\"a",
        "{\"a\":\"\t\"}",
    ] {
        assert!(matches!(refused(body), PeekError::Syntax { .. }), "{body}");
    }
    assert_eq!(refused("{} x"), PeekError::TrailingText { offset: 3 });
    assert_eq!(refused("{}{}"), PeekError::TrailingText { offset: 2 });
    assert_eq!(refused("{}\0"), PeekError::TrailingText { offset: 2 });
}

#[test]
fn half_surrogates_and_nul_characters_are_refused() {
    for body in [r#"{"model":"\ud800"}"#, r#"{"mod\udc00el":1}"#, r#"{"x":["\ud83d"]}"#] {
        assert!(
            matches!(refused(body), PeekError::Syntax { reason: crate::SyntaxReason::LoneSurrogate, .. }),
            "{body}"
        );
    }
    assert!(matches!(refused(r#"{"model\u0000":"a"}"#), PeekError::NulInName { offset: 1 }));
    assert!(matches!(refused(r#"{"model":"a\u0000"}"#), PeekError::NulInValue { member: Known::Model, .. }));
    assert!(peek(br#"{"x":"a\u0000"}"#).is_ok());
}

#[test]
fn errors_have_stable_codes_and_name_their_member() {
    for (body, code) in [
        ("", "empty_body"),
        ("[]", "body_not_an_object"),
        ("{", "invalid_json"),
        ("{}{}", "trailing_text"),
        (r#"{"model":"a","model":"b"}"#, "duplicate_member"),
        (r#"{"Model":"a"}"#, "member_in_other_case"),
        (r#"{"model":1}"#, "wrong_type"),
        (r#"{"\u0000":1}"#, "nul_character"),
    ] {
        assert_eq!(refused(body).code(), code);
    }
    assert_eq!(refused(r#"{"model":1}"#).member(), Some(Known::Model));
    assert_eq!(refused("{").member(), None);
}

#[test]
fn tools_are_named_by_a_list_at_the_top() {
    let names = |body: &str| peek(body.as_bytes()).unwrap().names_tools;
    assert!(names(r#"{"model":"m","tools":[{"type":"function"}]}"#));
    for body in [r#"{"tools":null}"#, r#"{"metadata":{"tools":[1]}}"#, r#"{"Tools":[1]}"#, "{}"] {
        assert!(!names(body), "{body}");
    }
    assert!(names(r#"{"tools":[1],"tools":null}"#), "nothing is decided by it");
}
