//! Which project and which time a report is about.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use domain::ProjectId;
use serde::Deserialize;
use store::costs::Range;

use crate::{Api, Error, Result, auth::Caller};

/// The time of a report.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RangeQuery {
    /// `day` is today (UTC), `week` the last 7 days with today, `month` 30 (if absent), `year` 365, `all` everything.
    period: Option<String>,
    /// A day, or a moment (RFC 3339). It wins over `period`.
    start_date: Option<String>,
    /// A day, which is part of it, or a moment, which is not.
    end_date: Option<String>,
    /// The key's project if absent; an administrator may name another of the organization.
    project_id: Option<String>,
}

/// What a report is about.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub project: ProjectId,
    pub period: &'static str,
    pub range: Range,
}

impl RangeQuery {
    pub(crate) async fn resolve(&self, api: &Api, caller: &Caller) -> Result<About> {
        let project = match self.project_id.as_deref().filter(|id| !id.is_empty()) {
            None => caller.project.clone(),
            Some(id) if id == caller.project.as_str() => caller.project.clone(),
            Some(id) => {
                let named = id.parse::<ProjectId>().ok().filter(|_| caller.is_admin());
                let found = match named {
                    Some(named) => api.store.find_project(&caller.organization, &named).await?,
                    None => None,
                };
                found.ok_or_else(|| Error::not_found("Project", id))?.id
            }
        };
        let (period, range) = self.range(Utc::now())?;
        Ok(About { project, period, range })
    }

    fn range(&self, now: DateTime<Utc>) -> Result<(&'static str, Range)> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (period, days) = match self.period.as_deref() {
            Some("day") => ("day", Some(1)),
            Some("week") => ("week", Some(7)),
            None | Some("" | "month") => ("month", Some(30)),
            Some("year") => ("year", Some(365)),
            Some("all") => ("all", None),
            Some(_) => return Err(Error::invalid_field("period", "must be day, week, month, year or all")),
        };
        let first_day = days.and_then(|days| now.date_naive().checked_sub_days(Days::new(days - 1)));
        let mut range = Range { from: first_day.map(start_of), until: None };
        if let Some(text) = given(&self.start_date) {
            range.from = Some(moment("startDate", &text, false)?);
        }
        if let Some(text) = given(&self.end_date) {
            range.until = Some(moment("endDate", &text, true)?);
        }
        Ok((period, range))
    }
}

/// Reads a moment, or a day: its beginning, or the end of it.
pub(crate) fn moment(field: &str, text: &str, is_end: bool) -> Result<DateTime<Utc>> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(moment.to_utc());
    }
    let day = text.parse::<NaiveDate>().ok();
    // Days that neither calendar nor database reaches are not days.
    let day = day.filter(|day| (1..=9999).contains(&chrono::Datelike::year(day)));
    let day = if is_end { day.and_then(|day| day.succ_opt()) } else { day };
    day.map(start_of).ok_or_else(|| {
        Error::invalid_field(field, "must be a day such as 2025-01-15, or a time such as 2025-01-15T10:30:00Z")
    })
}

fn start_of(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(period: Option<&str>, start: Option<&str>, end: Option<&str>) -> Option<(String, String)> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let query = RangeQuery { period: text(period), start_date: text(start), end_date: text(end), project_id: None };
        let now = "2025-03-10T12:00:00Z".parse().expect("a time");
        let (_, range) = query.range(now).ok()?;
        let show = |at: Option<DateTime<Utc>>| at.map_or("-".into(), |at| at.format("%m-%d %H:%M").to_string());
        Some((show(range.from), show(range.until)))
    }

    #[test]
    fn a_period_ends_with_today_and_days_are_whole() {
        let told = |from: &str, until: &str| Some((from.to_owned(), until.to_owned()));
        assert_eq!(range(Some("day"), None, None), told("03-10 00:00", "-"));
        assert_eq!(range(Some("week"), None, None), told("03-04 00:00", "-"));
        assert_eq!(range(None, None, None), told("02-09 00:00", "-"));
        assert_eq!(range(Some("all"), None, None), told("-", "-"));
        assert_eq!(range(Some("all"), Some("2025-01-01"), Some("2025-01-31")), told("01-01 00:00", "02-01 00:00"));
        assert_eq!(range(None, None, Some("2025-01-31T10:00:00+01:00")), told("02-09 00:00", "01-31 09:00"));
        assert_eq!(range(Some("decade"), None, None), None);
        assert_eq!(range(None, Some("yesterday"), None), None);
        assert_eq!(range(None, Some("99999-01-01"), None), None);
    }
}
