//! What we know about models without asking anyone: names, limits, prices.
//!
//! All of it is data (`models.toml`, dated, and a file of the operator's over it), because prices and models change
//! faster than programs. Money is whole micro-dollars from end to end; the one rounding is at the end of a turn.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Effort, Error, Usage};

/// All known models, aliases and prices.
#[derive(Debug, Clone)]
pub struct Catalogue {
    as_of: String,
    models: Vec<Model>,
    aliases: BTreeMap<String, String>,
    web_search_micro_usd: u64,
}

/// What is known about one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub id: String,
    /// Other ids of the same model, such as dated ones.
    pub also: Vec<String>,
    pub name: String,
    /// The context window, prompt and reply together.
    pub context_tokens: u64,
    pub max_output_tokens: u64,
    /// `None`: used, but not priced.
    pub prices: Option<Prices>,
    /// Applies to the whole request when its prompt is larger than the number of tokens.
    pub long_prompt: Option<(u64, Prices)>,
    pub thinking: ThinkingSupport,
    /// The effort levels it takes, in ascending order; empty: sending one is a 400.
    pub effort: Vec<Effort>,
    /// The newest version of the API's own web search that it has, such as `web_search_20250305`.
    pub web_search: Option<String>,
    /// `YYYY-MM-DD`, where a date is announced.
    pub retires: Option<String>,
}

/// Which `thinking` values a model takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThinkingSupport {
    /// Whether it thinks when the field is left out.
    pub is_default: bool,
    pub adaptive: bool,
    /// `{type: enabled, budget_tokens}`.
    pub enabled: bool,
    pub disabled: bool,
    pub between_tools: bool,
    /// Whether its thinking is good only behind the very system prompt, tools and messages it was made behind.
    pub is_bound: bool,
}

/// Micro-dollars per million tokens: 3,000,000 is $3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    #[serde(deserialize_with = "dollars")]
    pub input: u64,
    #[serde(deserialize_with = "dollars")]
    pub output: u64,
    #[serde(deserialize_with = "dollars")]
    pub cache_write_5m: u64,
    #[serde(deserialize_with = "dollars")]
    pub cache_write_1h: u64,
    #[serde(deserialize_with = "dollars")]
    pub cache_read: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    as_of: Option<String>,
    #[serde(default, deserialize_with = "maybe_dollars")]
    web_search: Option<u64>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    #[serde(default)]
    models: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    #[serde(default)]
    also: Vec<String>,
    name: Option<String>,
    context_tokens: u64,
    max_output_tokens: u64,
    prices: Option<Prices>,
    long_prompt: Option<LongPrompt>,
    #[serde(default)]
    thinking: ThinkingSupport,
    #[serde(default)]
    effort: Vec<Effort>,
    web_search: Option<String>,
    retires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LongPrompt {
    above_tokens: u64,
    prices: Prices,
}

const BUILTIN: &str = include_str!("models.toml");
const PER_MILLION: u128 = 1_000_000;

impl Catalogue {
    /// The catalogue this version was built with.
    pub fn builtin() -> Self {
        let empty =
            Self { as_of: String::new(), models: Vec::new(), aliases: BTreeMap::new(), web_search_micro_usd: 0 };
        empty.with(BUILTIN).expect("models.toml is checked by a test")
    }

    /// This catalogue with another file over it: a model replaces the one of the same id, an alias its namesake.
    /// # Errors
    /// `Invalid` with the line that is wrong.
    pub fn with(mut self, text: &str) -> Result<Self, Error> {
        let file: File =
            toml::from_str(text).map_err(|err| Error::Invalid(format!("cannot read the model catalogue: {err}")))?;
        for entry in file.models {
            let model = Model {
                name: entry.name.unwrap_or_else(|| entry.id.clone()),
                id: entry.id,
                also: entry.also,
                context_tokens: entry.context_tokens,
                max_output_tokens: entry.max_output_tokens,
                prices: entry.prices,
                long_prompt: entry.long_prompt.map(|long| (long.above_tokens, long.prices)),
                thinking: entry.thinking,
                effort: entry.effort,
                web_search: entry.web_search,
                retires: entry.retires,
            };
            match self.models.iter_mut().find(|known| known.id == model.id) {
                Some(known) => *known = model,
                None => self.models.push(model),
            }
        }
        self.aliases.extend(file.aliases);
        self.as_of = file.as_of.unwrap_or(self.as_of);
        self.web_search_micro_usd = file.web_search.unwrap_or(self.web_search_micro_usd);
        Ok(self)
    }

    /// The day the prices were true, `YYYY-MM-DD`.
    pub fn as_of(&self) -> &str {
        &self.as_of
    }

    /// All models, newest first.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// All aliases and what they stand for.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.aliases.iter().map(|(alias, id)| (alias.as_str(), id.as_str()))
    }

    /// The id to send for a name: what an alias stands for, else the name itself, known or not.
    pub fn resolve_alias<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, String::as_str)
    }

    /// A model by id, by another id of it, or by an id with a date behind it.
    pub fn find(&self, id: &str) -> Option<&Model> {
        let by_id =
            |id: &str| self.models.iter().find(|model| model.id == id || model.also.iter().any(|also| also == id));
        by_id(id).or_else(|| {
            let (base, date) = id.rsplit_once('-')?;
            (date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit())).then(|| by_id(base))?
        })
    }

    /// The most tokens one reply of this model may take, where the model is known.
    pub fn max_output(&self, id: &str) -> Option<u64> {
        self.find(id).map(|model| model.max_output_tokens)
    }

    /// What a reply cost, in micro-dollars, rounded half up once. `model` is the one the response names.
    ///
    /// `None` when a model of it is unknown or has no price: the turn is unpriced, which is not the same as free.
    pub fn price(&self, usage: &Usage, model: &str) -> Option<i64> {
        let mut sum = u128::from(usage.web_search_requests) * u128::from(self.web_search_micro_usd) * PER_MILLION;
        for part in usage.parts() {
            let model = self.find(part.model.as_deref().unwrap_or(model))?;
            let prompt = part.input_tokens
                + part.cache_read_input_tokens
                + part.cache_creation_5m_input_tokens
                + part.cache_creation_1h_input_tokens;
            let prices = match &model.long_prompt {
                Some((above, prices)) if prompt > *above => *prices,
                _ => model.prices?,
            };
            for (tokens, price) in [
                (part.input_tokens, prices.input),
                (part.output_tokens, prices.output),
                (part.cache_creation_5m_input_tokens, prices.cache_write_5m),
                (part.cache_creation_1h_input_tokens, prices.cache_write_1h),
                (part.cache_read_input_tokens, prices.cache_read),
            ] {
                sum += u128::from(tokens) * u128::from(price);
            }
        }
        i64::try_from((sum + PER_MILLION / 2) / PER_MILLION).ok()
    }
}

/// Dollars as people write them, as micro-dollars; refused when that is not a whole number of them.
fn dollars<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    use serde::de::Error as _;
    let dollars = f64::deserialize(deserializer)?;
    let micro = (dollars * 1e6).round();
    if !(0.0..=1e15).contains(&micro) || (dollars * 1e6 - micro).abs() > 1e-3 {
        return Err(D::Error::custom(format!("{dollars} is not an amount of dollars with at most six decimals")));
    }
    Ok(micro as u64)
}

fn maybe_dollars<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    dollars(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Iteration;

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input_tokens: input, output_tokens: output, ..Usage::default() }
    }

    #[test]
    fn every_model_is_found_by_all_its_names() {
        let catalogue = Catalogue::builtin();
        assert!(catalogue.models().len() >= 18);
        for model in catalogue.models() {
            for id in model.also.iter().chain([&model.id]) {
                assert_eq!(catalogue.find(id), Some(model), "{id}");
            }
        }
        for (alias, id) in catalogue.aliases() {
            assert!(catalogue.find(id).is_some(), "{alias}");
            assert_eq!(catalogue.resolve_alias(alias), id);
        }
        assert_eq!(catalogue.resolve_alias("claude-sonnet-4-5"), "claude-sonnet-4-5");
        assert_eq!(catalogue.find("claude-sonnet-5-5-20261001").unwrap().id, "claude-sonnet-5-5");
        assert_eq!(catalogue.find("gpt-oss-20b"), None);
        assert_eq!(catalogue.max_output("claude-haiku-4-5"), Some(64_000));
        assert_eq!(catalogue.as_of(), "2026-11-24");
        let search = |id| catalogue.find(id).and_then(|model: &Model| model.web_search.as_deref());
        assert_eq!(search("claude-sonnet-5-5"), Some("web_search_20260318"));
        assert_eq!(search("claude-sonnet-4-5-20250929"), Some("web_search_20250305"));
    }

    #[test]
    fn prices_follow_the_general_rule_where_one_is_known() {
        for model in Catalogue::builtin().models() {
            for prices in model.prices.iter().chain(model.long_prompt.iter().map(|(_, prices)| prices)) {
                assert_eq!(prices.cache_write_5m * 4, prices.input * 5, "{}", model.id);
                assert_eq!(prices.cache_write_1h, prices.input * 2, "{}", model.id);
                assert!(prices.cache_read * 10 <= prices.input, "{}", model.id);
                assert_eq!(prices.output, prices.input * 5, "{}", model.id);
            }
        }
    }

    #[test]
    fn a_turn_is_priced_exactly_and_rounded_once() {
        let catalogue = Catalogue::builtin();
        let price = |usage: &Usage, model| catalogue.price(usage, model);
        assert_eq!(price(&usage(1_000_000, 1_000_000), "claude-sonnet-4-5"), Some(18_000_000));
        let mixed = Usage {
            input_tokens: 1_000,
            output_tokens: 2_000,
            cache_read_input_tokens: 40_000,
            cache_creation_5m_input_tokens: 300,
            cache_creation_1h_input_tokens: 70,
            web_search_requests: 3,
            ..Usage::default()
        };
        // Opus 5.5: 4000 + 40000 + 8000 + 1500 + 560 + 30000.
        assert_eq!(price(&mixed, "claude-opus-5-5"), Some(84_060));
        // Haiku 5.5 at a tenth of a micro-dollar a token: 0.4, 0.5 and 0.1 + 0.5 micro-dollars.
        assert_eq!(price(&usage(4, 0), "claude-haiku-5-5"), Some(0));
        assert_eq!(price(&usage(5, 0), "claude-haiku-5-5"), Some(1));
        assert_eq!(price(&usage(1, 1), "claude-haiku-5-5"), Some(1));
        assert_eq!(price(&usage(u64::MAX / 2, 0), "claude-opus-5-5"), None, "more than there is room for");
    }

    #[test]
    fn a_long_prompt_raises_the_price_of_the_whole_request() {
        let catalogue = Catalogue::builtin();
        let prompt = |read| Usage { cache_read_input_tokens: read, ..usage(50_000, 1_000) };
        assert_eq!(catalogue.price(&prompt(50_000), "claude-haiku-5-5"), Some(5_000 + 500 + 500));
        assert_eq!(catalogue.price(&prompt(50_001), "claude-haiku-5-5"), Some(25_000 + 2_500 + 2_500));
    }

    #[test]
    fn iterations_are_billed_each_with_its_own_model() {
        let part = |kind: &str, model: Option<&str>| Iteration {
            kind: kind.into(),
            model: model.map(str::to_owned),
            input_tokens: 1_000,
            output_tokens: 100,
            ..Iteration::default()
        };
        let with = |parts| Usage { iterations: parts, ..usage(1_000, 100) };
        let catalogue = Catalogue::builtin();
        let two = with(vec![part("compaction", None), part("fallback_message", Some("claude-sonnet-5-5"))]);
        assert_eq!(catalogue.price(&two, "claude-opus-5-5"), Some(6_000 + 3_000));
        let unknown = with(vec![part("message", None), part("advisor_message", Some("nobody"))]);
        assert_eq!(catalogue.price(&unknown, "claude-opus-5-5"), None);
    }

    #[test]
    fn what_has_no_price_is_unpriced_and_a_file_may_price_it() {
        let catalogue = Catalogue::builtin();
        assert_eq!(catalogue.price(&usage(1, 1), "claude-mythos-5-2"), None);
        assert_eq!(catalogue.price(&usage(1, 1), "llama"), None);
        let own = r#"
            as_of = "2027-01-01"
            [aliases]
            sonnet = "llama"
            [[models]]
            id = "llama"
            context_tokens = 8_000
            max_output_tokens = 2_000
            prices = { input = 0, output = 0.000001, cache_write_5m = 0, cache_write_1h = 0, cache_read = 0 }
        "#;
        let catalogue = catalogue.with(own).unwrap();
        assert_eq!(catalogue.resolve_alias("sonnet"), "llama");
        assert_eq!(catalogue.resolve_alias("opus"), "claude-opus-5-5");
        assert_eq!(catalogue.price(&usage(9, 2_000_000), "llama"), Some(2));
        for bad in ["models = 3", "[[models]]\nid = \"x\"", "web_search = 0.0000001", "web_search = -1", "typo = 1"] {
            assert!(matches!(Catalogue::builtin().with(bad), Err(Error::Invalid(_))), "{bad}");
        }
    }
}
