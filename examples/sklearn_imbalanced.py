"""Class weights where one class is rare, and a training that ends when it no longer helps.

One example in thirty is of the rare class. With class_weight="balanced" a mistake on it counts for as much more as it
is rarer: most of the rare examples are found, at the price of some false alarms. With early_stopping a tenth of the
training examples is held out, and validation_loss_curve_ has the loss on them after each iteration.
"""

from sklearn.datasets import make_classification
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xpnet.sklearn import MLPClassifier

X, y = make_classification(6000, n_informative=5, weights=[0.97], class_sep=1.3, flip_y=0.005, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
print(f"{(y_train == 1).mean():.1%} of {len(y_train)} training examples are of the rare class")

for class_weight in (None, "balanced"):
    mlp = MLPClassifier(class_weight=class_weight, early_stopping=True, learning_rate_init=0.003, random_state=0)
    predicted = make_pipeline(StandardScaler(), mlp).fit(X_train, y_train).predict(X_test)
    balanced, recall = balanced_accuracy_score(y_test, predicted), recall_score(y_test, predicted)
    losses = mlp.validation_loss_curve_
    print(f"class_weight={class_weight}: balanced accuracy {balanced:.1%}, recall of the rare class {recall:.1%}")
    print(f"  validation loss {losses[0]:.3f} after the first of {len(losses)} iterations, lowest {min(losses):.3f}")
