"""Entity resolution, pure: settings, rules, normalised values, scoring, clustering, golden records."""
