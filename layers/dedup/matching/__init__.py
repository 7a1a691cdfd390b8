"""Entity resolution: settings, match rules, normalised values, scoring, clustering, golden records. Pure functions."""
