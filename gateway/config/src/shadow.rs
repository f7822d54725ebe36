//! Shadow: copies of one arm's requests to the other, as pods carry them out.

use serde::{Deserialize, Serialize};

use crate::{Prices, ProviderType};

/// Most bytes that the prices may take in the table, which pods read on every change of the split. A model whose price does not fit is not
/// copied.
const MAX_PRICES_BYTES: usize = 128 * 1024;

/// Which requests are copied, and what that may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shadow {
    /// Share of the eligible requests of the arm, 0 to 100, by chance.
    pub percent: u8,
    /// Whose requests are copied to the other arm.
    pub of: ShadowedArm,
    /// What all pods together may spend in a day (UTC), in micro-units of the currency.
    pub daily_limit: u64,
    /// How many pods share the limit, at least one.
    pub pods: u32,
    /// Whether requests with tools are left out.
    pub skip_tools: bool,
    /// Requests with a larger body are left out, in bytes.
    pub max_body: u64,
    /// Requests with this header (lower case) are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_header: Option<String>,
    /// Currency of limit and prices; empty where there is no price.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub currency: String,
    /// Prices of the models; what has none is not copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<ShadowPrice>,
}

/// An arm whose requests are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShadowedArm {
    /// Those that go straight to the vendor.
    Baseline,
    /// Those that go through the pipeline.
    Bifrost,
}

/// What the tokens of a model cost, in micro-units of the currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowPrice {
    /// Type of the provider.
    pub provider: ProviderType,
    /// The model, or the beginning of its name and a `*`.
    pub model: String,
    /// A million tokens of the prompt.
    pub input: u64,
    /// A million tokens of the answer.
    pub output: u64,
}

impl ShadowPrice {
    /// What so many tokens cost, in millionths of a micro-unit: a token's price is no whole number of anything larger.
    pub const fn cost(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let input = input_tokens.saturating_mul(self.input);
        input.saturating_add(output_tokens.saturating_mul(self.output))
    }
}

impl Shadow {
    /// The same for so many pods, with the prices that concern providers of these types.
    pub fn shared(self, pods: usize, prices: &Prices, types: &[ProviderType]) -> Self {
        let mut bytes = 0;
        let entries = prices.entries().filter(|(provider, ..)| types.contains(provider));
        let known = entries.map(|(provider, model, price)| ShadowPrice {
            provider,
            model,
            input: price.input,
            output: price.output,
        });
        let fitting = known.take_while(|price| {
            bytes += serde_json::to_string(price).map_or(0, |text| text.len() + 1);
            bytes <= MAX_PRICES_BYTES
        });
        Self {
            prices: fitting.collect(),
            pods: u32::try_from(pods).unwrap_or(u32::MAX).max(1),
            currency: prices.currency().to_owned(),
            ..self
        }
    }

    /// What one pod may spend in a day, in millionths of a micro-unit.
    pub fn daily_limit_of_a_pod(&self) -> u64 {
        self.daily_limit.saturating_mul(1_000_000) / u64::from(self.pods.max(1))
    }

    /// The price of a model: the exact name wins, then the longest beginning.
    pub fn price(&self, provider: ProviderType, model: &str) -> Option<&ShadowPrice> {
        let fitting = self.prices.iter().filter(|price| price.provider == provider && price.fits(model));
        fitting.max_by_key(|price| (!price.model.ends_with('*'), price.model.len()))
    }
}

impl ShadowPrice {
    fn fits(&self, model: &str) -> bool {
        match self.model.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => self.model == model,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shadow(prices: &[(&str, u64)]) -> Shadow {
        let price = |(model, input): &(&str, u64)| ShadowPrice {
            provider: ProviderType::OpenAI,
            model: (*model).to_owned(),
            input: *input,
            output: 2 * input,
        };
        Shadow {
            percent: 5,
            of: ShadowedArm::Baseline,
            daily_limit: 10_000_000,
            pods: 3,
            skip_tools: true,
            max_body: 1,
            skip_header: None,
            currency: "USD".into(),
            prices: prices.iter().map(price).collect(),
        }
    }

    #[test]
    fn the_exact_name_wins_then_the_longest_beginning() {
        let shadow = shadow(&[("*", 1), ("gpt-4o*", 2), ("gpt-4o", 3), ("gpt-4o-mini*", 4)]);
        let input = |model| shadow.price(ProviderType::OpenAI, model).map(|price| price.input);
        assert_eq!(input("o3"), Some(1));
        assert_eq!(input("gpt-4o"), Some(3));
        assert_eq!(input("gpt-4o-2024"), Some(2));
        assert_eq!(input("gpt-4o-mini-2024"), Some(4));
        assert_eq!(shadow.price(ProviderType::Anthropic, "o3"), None);
    }

    #[test]
    fn only_prices_of_the_types_in_use_are_published_and_no_more_than_fit() {
        let text = |count: usize| {
            let models: Vec<_> =
                (0..count).map(|n| format!(r#""{}{n}*":{{"input":"1","output":"2"}}"#, "m".repeat(100))).collect();
            format!(
                r#"{{"currency":"EUR","models":{{"OpenAI":{{{}}},"Anthropic":{{"c":{{"input":"3","output":"4"}}}}}}}}"#,
                models.join(",")
            )
        };
        let prices = |count| Prices::parse(text(count).as_bytes()).unwrap();
        let shared = shadow(&[]).shared(4, &prices(3), &[ProviderType::OpenAI]);
        assert_eq!((shared.prices.len(), shared.pods, shared.currency.as_str()), (3, 4, "EUR"));
        assert_eq!(shared.prices[0].output, 2_000_000);
        let many = shadow(&[]).shared(0, &prices(1_500), &ProviderType::ALL);
        assert_eq!(many.pods, 1);
        assert!(many.prices.len() > 500 && serde_json::to_string(&many.prices).unwrap().len() <= MAX_PRICES_BYTES + 1);
    }

    #[test]
    fn the_shares_of_all_pods_are_not_more_than_the_limit() {
        let shadow = shadow(&[]);
        assert!(shadow.daily_limit_of_a_pod() * 3 <= 10_000_000 * 1_000_000);
        assert_eq!(Shadow { pods: 0, ..shadow }.daily_limit_of_a_pod(), 10_000_000_000_000);
    }

    #[test]
    fn tokens_cost_what_a_million_costs_by_a_million() {
        let shadow = shadow(&[("m", 2_500_000)]);
        let price = shadow.price(ProviderType::OpenAI, "m").unwrap();
        // 1000 × 2.50 / 1 M + 100 × 5.00 / 1 M = 0.003
        assert_eq!(price.cost(1000, 100), 3_000 * 1_000_000);
        assert_eq!(price.cost(u64::MAX, 1), u64::MAX);
    }
}
