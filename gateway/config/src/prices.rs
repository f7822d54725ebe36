//! What the models cost: a price list, read from a JSON file of its own.
//!
//! ```json
//! {"currency": "USD", "models": {"OpenAI": {"gpt-4o": {"input": "2.50", "output": "10.00"}, "gpt-4o-2*": {"input": "2.50", "output": "10.00"}}}}
//! ```
//!
//! By type of provider and by model, the price of a million tokens. A name that ends in `*` stands for all that begin like it; the exact
//! name wins, then the longest beginning. Prices are decimal texts, for a number loses digits on its way through YAML and JSON; inside,
//! they are whole micro-units. Read strictly, all problems at once, each with its path.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::Problem;
use crate::catalog::ProviderType;

/// A file larger than this is no price list.
pub const MAX_BYTES: usize = 256 * 1024;
/// More models than this are refused.
const MAX_MODELS: usize = 2_000;
/// Bytes of a model's name.
const MAX_NAME: usize = 160;
/// Micro-units of one unit of the currency.
const UNIT: u64 = 1_000_000;
/// Digits before the point of an amount, and behind it.
const DIGITS: (usize, usize) = (6, 6);

/// A price list. The empty one knows no price.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    currency: String,
    models: BTreeMap<&'static str, Models>,
}

/// What a model's tokens cost, in micro-units of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPrice {
    /// A million tokens of the prompt.
    pub input: u64,
    /// A million tokens of the answer.
    pub output: u64,
}

impl ModelPrice {
    /// What so many tokens cost, in units of the currency.
    pub fn cost(self, input_tokens: f64, output_tokens: f64) -> f64 {
        let micros = input_tokens * self.input as f64 + output_tokens * self.output as f64;
        micros / UNIT as f64 / 1e6
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Models {
    exact: BTreeMap<String, ModelPrice>,
    /// By what a name begins with.
    prefixes: BTreeMap<String, ModelPrice>,
}

impl Models {
    fn find(&self, model: &str) -> Option<ModelPrice> {
        let by_prefix = || self.prefixes.iter().filter(|(prefix, _)| model.starts_with(prefix.as_str()));
        let longest = || by_prefix().max_by_key(|(prefix, _)| prefix.len()).map(|(_, price)| *price);
        self.exact.get(model).copied().or_else(longest)
    }

    fn len(&self) -> usize {
        self.exact.len() + self.prefixes.len()
    }
}

impl Prices {
    /// Reads a file.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<Problem>> {
        if text.len() > MAX_BYTES {
            return Err(vec![Problem::too_large("", format!("a price list has at most {MAX_BYTES} bytes"))]);
        }
        let read = serde_json::from_slice(text);
        let value: Value = read.map_err(|error| vec![Problem::invalid("", format!("no JSON: {error}"))])?;
        let mut reader = Reader::default();
        let prices = reader.read(&value);
        if reader.problems.is_empty() { Ok(prices) } else { Err(reader.problems) }
    }

    /// Currency of all prices, such as `USD`; empty in the empty list.
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.models.values().map(Models::len).sum()
    }

    /// Whether no model has a price.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every entry: type of provider, the model or the beginning of its name and a `*`, and the price.
    pub fn entries(&self) -> impl Iterator<Item = (ProviderType, String, ModelPrice)> {
        let models = |provider: ProviderType| self.models.get(provider.as_str()).map(|models| (provider, models));
        ProviderType::ALL.into_iter().filter_map(models).flat_map(|(provider, models)| {
            let exact = models.exact.iter().map(|(name, price)| (name.clone(), *price));
            let prefixes = models.prefixes.iter().map(|(prefix, price)| (format!("{prefix}*"), *price));
            exact.chain(prefixes).map(move |(model, price)| (provider, model, price))
        })
    }

    /// What this model costs at a provider of this type.
    pub fn find(&self, provider: ProviderType, model: &str) -> Option<ModelPrice> {
        self.models.get(provider.as_str())?.find(model)
    }
}

/// Reads an amount of money as a text with at most six digits before the point and six behind it, such as `0.002`: in micro-units.
pub fn parse_money(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |part: &str, most: usize| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole, DIGITS.0) || !digits(fraction, DIGITS.1) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let micros: u64 = format!("{fraction:0<6}").parse().ok()?;
    Some(whole * UNIT + micros)
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn read(&mut self, value: &Value) -> Prices {
        let mut prices = Prices::default();
        let Some(members) = self.object(value, "") else { return prices };
        self.only(members, "", &["currency", "models"]);
        match members.get("currency").and_then(Value::as_str) {
            Some(code) if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                code.clone_into(&mut prices.currency);
            }
            _ => self.invalid("currency", "must be the three letters of a currency, such as USD"),
        }
        let Some(types) = members.get("models").and_then(|models| self.object(models, "models")) else { return prices };
        for (name, models) in types {
            let path = format!("models.{name}");
            let Some(known) = ProviderType::ALL.into_iter().find(|one| one.as_str() == name) else {
                let types = ProviderType::ALL.map(ProviderType::as_str).join(", ");
                self.problems.push(Problem::unknown(path, format!("is no type of a provider; there are {types}")));
                continue;
            };
            let models = self.models(models, &path);
            prices.models.insert(known.as_str(), models);
        }
        if prices.len() > MAX_MODELS {
            self.problems.push(Problem::too_large("models", format!("at most {MAX_MODELS} entries")));
        }
        prices
    }

    fn models(&mut self, value: &Value, path: &str) -> Models {
        let mut models = Models::default();
        for (name, price) in self.object(value, path).into_iter().flatten() {
            let path = format!("{path}[{name:?}]");
            let prefix = name.strip_suffix('*');
            let plain = prefix.unwrap_or(name);
            let is_name = plain.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
            if name.is_empty() || name.len() > MAX_NAME || !is_name {
                let message = format!(
                    "must be the name of a model without blanks, at most {MAX_NAME} characters, * only at its end"
                );
                self.invalid(&path, &message);
                continue;
            }
            let Some(price) = self.price(price, &path) else { continue };
            let group = if prefix.is_some() { &mut models.prefixes } else { &mut models.exact };
            group.insert(plain.to_owned(), price);
        }
        models
    }

    fn price(&mut self, value: &Value, path: &str) -> Option<ModelPrice> {
        let members = self.object(value, path)?;
        self.only(members, path, &["input", "output"]);
        let (input, output) = (self.amount(members, path, "input"), self.amount(members, path, "output"));
        Some(ModelPrice { input: input?, output: output? })
    }

    fn amount(&mut self, members: &Map<String, Value>, path: &str, name: &str) -> Option<u64> {
        let amount = members.get(name).and_then(Value::as_str).and_then(parse_money);
        if amount.is_none() {
            let message = "must be the price of a million tokens as a text, such as \"2.50\"";
            self.invalid(&format!("{path}.{name}"), message);
        }
        amount
    }

    fn object<'v>(&mut self, value: &'v Value, path: &str) -> Option<&'v Map<String, Value>> {
        if value.is_null() {
            // What an override took out.
            return None;
        }
        let object = value.as_object();
        if object.is_none() {
            self.invalid(path, "must be an object");
        }
        object
    }

    fn only(&mut self, members: &Map<String, Value>, path: &str, known: &[&str]) {
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let message = format!("is not known here; there are {}", known.join(", "));
            self.problems.push(Problem::unknown(path, message));
        }
    }

    fn invalid(&mut self, path: &str, message: &str) {
        self.problems.push(Problem::invalid(path, message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(models: Value) -> Result<Prices, Vec<String>> {
        let file = json!({"currency": "USD", "models": models}).to_string();
        Prices::parse(file.as_bytes()).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn money_is_read_to_the_micro_unit() {
        assert_eq!(parse_money("2.50"), Some(2_500_000));
        assert_eq!(parse_money("0.000001"), Some(1));
        assert_eq!(parse_money("999999"), Some(999_999_000_000));
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "0.0000001", "1000000", " 1", "1.2.3", "٣"] {
            assert_eq!(parse_money(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_exact_name_wins_then_the_longest_beginning() {
        let price = |input: &str| json!({"input": input, "output": "0"});
        let prices = read(json!({
            "OpenAI": {"gpt-4o": price("1"), "gpt-4o*": price("2"), "gpt-4o-mini*": price("3"), "*": price("4")},
            "Anthropic": {"claude": price("5")},
        }))
        .unwrap();
        let input = |provider, model| prices.find(provider, model).map(|price| price.input / UNIT);
        assert_eq!(input(ProviderType::OpenAI, "gpt-4o"), Some(1));
        assert_eq!(input(ProviderType::OpenAI, "gpt-4o-2024-08-06"), Some(2));
        assert_eq!(input(ProviderType::OpenAI, "gpt-4o-mini-2024-07-18"), Some(3));
        assert_eq!(input(ProviderType::OpenAI, "o3"), Some(4));
        assert_eq!(input(ProviderType::Anthropic, "claude"), Some(5));
        assert_eq!(input(ProviderType::Anthropic, "claude-3"), None);
        assert_eq!((prices.len(), prices.currency()), (5, "USD"));
        assert_eq!(Prices::default().find(ProviderType::OpenAI, "gpt-4o"), None);
    }

    #[test]
    fn tokens_cost_what_a_million_costs_by_a_million() {
        let price = ModelPrice { input: 2_500_000, output: 10_000_000 };
        assert!((price.cost(1000.0, 100.0) - 0.0035).abs() < 1e-12);
    }

    #[test]
    fn all_problems_are_named_with_their_paths() {
        let problems = read(json!({
            "OpenAI": {
                "a b": {"input": "1", "output": "1"},
                "g*t": {"input": "1", "output": "1"},
                "": {"input": "1", "output": "1"},
                "gpt": {"input": 2.5, "outputs": "1"},
            },
            "openai": {},
            "Anthropic": [],
        }))
        .unwrap_err();
        let starts = [
            "models.Anthropic: ",
            r#"models.OpenAI[""]: "#,
            r#"models.OpenAI["a b"]: "#,
            r#"models.OpenAI["g*t"]: "#,
            r#"models.OpenAI["gpt"].outputs: "#,
            r#"models.OpenAI["gpt"].input: "#,
            r#"models.OpenAI["gpt"].output: "#,
            "models.openai: ",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        for start in starts {
            assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start} {problems:#?}");
        }
    }

    #[test]
    fn what_is_no_price_list_is_refused() {
        for text in ["", "[]", "{}", r#"{"currency":"usd"}"#, r#"{"currency":"USD","model":{}}"#] {
            assert!(Prices::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Prices::parse(&vec![b' '; MAX_BYTES + 1]).is_err());
        let many: Map<String, Value> =
            (0..=MAX_MODELS).map(|n| (format!("m{n}"), json!({"input": "1", "output": "1"}))).collect();
        let problems = read(json!({"OpenAI": many})).unwrap_err();
        assert!(problems[0].starts_with("models: "), "{problems:?}");
    }

    #[test]
    fn an_override_can_take_a_model_out() {
        let prices = read(json!({"OpenAI": {"gpt-4o": null}, "Anthropic": null})).unwrap();
        assert!(prices.is_empty());
    }
}
