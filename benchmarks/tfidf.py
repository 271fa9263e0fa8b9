"""What a user would pick instead: TF-IDF over words and word pairs with logistic regression, by scikit-learn.

Fitted on the training part of the same data. A user keeps it as a pickle; here it is fitted anew, untimed.
"""

from collections.abc import Callable, Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from toolchain.corpus.reviews import Source, read_training_reviews


def fitted(source: Source) -> Callable[[Sequence[str]], list[str]]:
    """Texts -> labels."""
    reviews, _ = read_training_reviews(source)
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
    pipeline.fit(reviews.texts, reviews.labels)
    return lambda texts: [str(label) for label in pipeline.predict(texts)]
