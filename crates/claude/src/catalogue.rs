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
