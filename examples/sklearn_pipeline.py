"""A scaler and an MLP in a pipeline, whose settings a grid search chooses on two processes.

It is a script for scikit-learn's MLPClassifier but for one import, and searches a setting that only xpnet's has,
dropout. It prints the accuracy of each pair of settings in three folds, and that of the best on examples held out.
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xpnet.sklearn import MLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

pipeline = make_pipeline(StandardScaler(), MLPClassifier(early_stopping=True, learning_rate_init=0.01, random_state=0))
grid = {"mlpclassifier__hidden_layer_sizes": [(10,), (100,)], "mlpclassifier__dropout": [0.0, 0.3]}
search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2).fit(X_train, y_train)

for settings, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
    hidden, dropout = settings["mlpclassifier__hidden_layer_sizes"], settings["mlpclassifier__dropout"]
    print(f"hidden_layer_sizes={hidden}, dropout={dropout}: {100 * score:.2f} % in three folds")
print(f"the best on {len(y_test)} examples held out: {100 * search.score(X_test, y_test):.2f} %")
