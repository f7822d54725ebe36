use super::*;

fn check(text: &str) -> Result<(), Fault> {
    let mut cursor = Cursor::new(text.as_bytes());
    cursor.skip_whitespace();
    cursor.skip_value()?;
    cursor.skip_whitespace();
    if cursor.is_at_end() { Ok(()) } else { Err(cursor.fault(SyntaxReason::ExpectedValue)) }
}

#[test]
fn values_of_every_kind_are_accepted() {
    for text in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "12",
        "-1.5e+10",
        "0.5E-3",
        "\"\"",
        "\"a\"",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[1 , 2]",
        r#"{"a" : [1,{"b":null}], "c":"d"}"#,
        r#""\"\\\/\b\f\n\r\t\u00e9""#,
        r#""\ud83d\ude00""#,
        "1e999",
        " \t\r\n[true , false ] ",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
    }
}

#[test]
fn faults_name_the_place_and_the_reason() {
    use SyntaxReason::*;
    for (text, offset, reason) in [
        ("", 0, UnexpectedEnd),
        ("[1", 2, UnexpectedEnd),
        ("tru", 3, UnexpectedEnd),
        ("trux", 0, ExpectedValue),
        ("truex", 4, ExpectedValue),
        ("'a'", 0, ExpectedValue),
        ("01", 1, InvalidNumber),
        ("-", 1, UnexpectedEnd),
        ("+1", 0, ExpectedValue),
        ("[1.]", 3, InvalidNumber),
        ("[.5]", 1, ExpectedValue),
        ("[1e]", 3, InvalidNumber),
        ("[1,]", 3, ExpectedValue),
        ("[1 2]", 3, ExpectedCommaOrBracket),
        ("{\"a\" 1}", 5, ExpectedColon),
        ("{\"a\":1,}", 7, ExpectedName),
        ("{\"a\":1]", 6, ExpectedCommaOrBrace),
        ("{a:1}", 1, ExpectedName),
        ("[\"a\nb\"]", 3, ControlCharacter),
        (r#""\x""#, 1, InvalidEscape),
        (r#""\u12g4""#, 1, InvalidEscape),
        (r#""\ud800""#, 1, LoneSurrogate),
        (r#""\ud800\u0041""#, 1, LoneSurrogate),
        (r#""\udc00""#, 1, LoneSurrogate),
        ("\"abc", 4, UnexpectedEnd),
        ("\"abc\\", 5, UnexpectedEnd),
        ("NaN", 0, ExpectedValue),
    ] {
        assert_eq!(check(text), Err(Fault { offset, reason }), "{text}");
    }
}

#[test]
fn nesting_is_bounded_and_mixed_containers_close_in_order() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert_eq!(check(&nested(127)), Ok(()));
    assert_eq!(check(&nested(128)), Err(Fault { offset: 127, reason: SyntaxReason::TooDeep }));
    let mixed = r#"{"a":["#.repeat(63) + "1" + &"]}".repeat(63);
    assert_eq!(check(&mixed), Ok(()));
    assert!(check(&mixed.replace("]}", "}]")).is_err());
}

#[test]
fn depth_counts_the_containers_that_were_entered() {
    let text = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    let mut cursor = Cursor::new(text.as_bytes());
    cursor.enter_object().unwrap();
    cursor.next_name(true).unwrap().unwrap();
    assert_eq!(cursor.skip_value().unwrap_err().reason, SyntaxReason::TooDeep);
}
