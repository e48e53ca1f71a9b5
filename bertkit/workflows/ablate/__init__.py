"""The paper's comparisons (Devlin et al. 2019, section 5 and appendix C) on one's own text, under an equal budget."""
